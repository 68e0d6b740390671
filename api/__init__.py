"""How the outside reaches the ledger: HTTP, settings, processes, and the command line."""
