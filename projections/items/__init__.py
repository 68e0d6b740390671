"""Read models of items."""
