"""Measures the service beside raw SQL and the library's own pattern, on one PostgreSQL: `python -m bench`."""
