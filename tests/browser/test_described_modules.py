"""The dashboard's own documents name each of its modules."""

from __future__ import annotations

from pathlib import Path

import pytest

DASHBOARD = Path(__file__).parent.parent.parent / "web" / "dashboard"


@pytest.mark.parametrize(("folder", "readme"), [("lib", "README.md"), ("parts", "parts/README.md")])
def test_every_module_is_in_the_list(folder: str, readme: str) -> None:
    text = (DASHBOARD / readme).read_text()
    modules = sorted(path.name for path in (DASHBOARD / folder).glob("*.js"))
    assert modules, folder
    assert [name for name in modules if f"`{name}`" not in text] == []
