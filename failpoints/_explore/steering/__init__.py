"""The threads of a run: one of them runs at a time, and the search decides which."""
