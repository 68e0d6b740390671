"""Read models of products."""
