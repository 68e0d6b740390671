"""What we can say about the ledger: one read model is one file, with its table's statements and queries.

A read model is a function of events alone. Its tables are made by the migrations and written by nothing else.
"""
