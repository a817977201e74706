"""What a visit needs and what is configured: actions, matchers, the registry, and the visit itself."""
