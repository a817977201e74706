"""Finds the failpoints in source code without running it."""
