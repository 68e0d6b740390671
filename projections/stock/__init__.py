"""Read models of fungible stock."""
