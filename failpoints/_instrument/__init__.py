"""Failpoints on functions that belong to other packages."""
