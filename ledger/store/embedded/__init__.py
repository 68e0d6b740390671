"""A private PostgreSQL for trial, tests and a single host."""
