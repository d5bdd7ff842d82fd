"""Whose requests count together where somebody is known."""

from __future__ import annotations

from streambroker.core.access import Principal


def counted_as(principal: Principal) -> str:
    """Under which name a principal's requests count: its user's; all API keys of a user together on their own.

    So a key that runs wild, or is in the wrong hands, cannot keep its user from deleting it.
    """
    return f"u:{principal.username}" if principal.key_id is None else f"k:{principal.username}"
