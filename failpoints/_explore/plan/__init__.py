"""The search over faults and orders. Pure: it does not know any event loop."""
