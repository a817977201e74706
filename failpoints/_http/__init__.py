"""The HTTP control plane, and the formats that its client shares with it."""
