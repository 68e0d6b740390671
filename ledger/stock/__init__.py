"""Fungible stock: how much there is."""
