"""Read models that follow the log, in a process of their own."""
