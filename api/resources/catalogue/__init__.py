"""What the catalogue brings to the API."""
