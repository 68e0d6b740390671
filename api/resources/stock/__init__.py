"""What fungible stock brings to the API."""
