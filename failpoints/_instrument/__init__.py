"""Failpoints on functions that belong to somebody else."""
