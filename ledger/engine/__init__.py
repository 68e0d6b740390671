"""Deciding and recording commands. Knows no business: it is given the rooms."""
