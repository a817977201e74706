"""The HTTP control plane, and what its client shares with it."""
