"""Who may call and do what: keys, tokens, scopes, rate limits, browsers."""
