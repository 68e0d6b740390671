"""Read models of what was purchased."""
