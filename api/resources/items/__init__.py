"""What items bring to the API."""
