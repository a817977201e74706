"""Failpoints that come with a request."""
