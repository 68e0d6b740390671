"""HTTP processes: the event loop on waitress, connections, threads, forking."""
