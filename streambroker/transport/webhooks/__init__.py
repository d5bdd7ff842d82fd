"""Webhooks: the door that calls out. Messages of a queue are pushed to a URL, as Standard Webhooks describes it."""
