"""What runs a page of the documentation starts a real broker, so it is not part of the fast gate."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "docs" and item.path.name == "test_pages_run.py":
            item.add_marker(pytest.mark.system)
