"""Finding failpoints in source code, without running it."""
