"""The dashboard: its page, and the feed that it lives from."""
