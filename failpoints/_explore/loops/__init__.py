"""What runs a scenario: an event loop for asyncio, a clock for trio, and how each is made deterministic."""
