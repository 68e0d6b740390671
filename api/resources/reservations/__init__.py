"""What reservations bring to the API."""
