"""How a program declares its failpoints: `failpoint`, `failpoint_scope`, and decorated functions."""
