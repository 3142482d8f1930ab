"""The only room that speaks to Kubernetes: a client of dicts, watches, checks, and what Berth needs there."""
