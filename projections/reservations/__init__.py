"""Read models of reservations."""
