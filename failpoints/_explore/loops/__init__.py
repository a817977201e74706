"""Runs a scenario on asyncio or trio, with an event loop or a clock that makes every run deterministic."""
