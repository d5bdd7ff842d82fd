"""Which pages are documentation."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "web/sdk/README.md", *sorted(DOCS.rglob("*.md"))]
