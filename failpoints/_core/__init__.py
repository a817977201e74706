"""The core: actions and their grammar, matchers, configurations, the registry and the visit of a site."""
