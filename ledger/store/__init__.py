"""The only rooms that know eventsourcing's internals and SQL for the log."""
