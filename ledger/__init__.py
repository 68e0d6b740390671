"""What can happen to stock and how it is kept: events, rules, the committer and the store.

Nothing in here knows HTTP or the read models' queries; `projections` and `api` stand above.
"""
