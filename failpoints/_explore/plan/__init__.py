"""What to try next. Pure: knows no event loop."""
