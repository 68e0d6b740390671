"""What every call reads and writes: requests, answers, problems, routes."""
