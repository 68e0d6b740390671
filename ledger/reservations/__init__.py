"""Carts and holds: what they hold, until when, and how they end."""
