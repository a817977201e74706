"""Programs that show failpoints at work."""
