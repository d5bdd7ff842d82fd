"""The README stays short, and its links and those of the other pages at the top lead somewhere.

Its commands are run by `tests/docs`, with those of all other pages.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "web/README.md", "web/sdk/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    assert [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []
