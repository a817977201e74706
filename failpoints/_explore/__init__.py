"""Exploration: runs a scenario under every fault and every order of its tasks."""
