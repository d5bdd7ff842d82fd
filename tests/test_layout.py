"""The direction of imports, read from the source: what stands to the left knows nothing of what stands to the right."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# For each part of the package, the parts that it may import. Only what puts a broker together sees all.
MAY_IMPORT = {
    "core": set[str](),
    "protocol": {"core"},
    "store": {"core"},
    "notify": {"core"},
    "observe": {"core"},
    "broker": {"core", "protocol", "store", "notify"},
    "transport": {"core", "protocol", "store", "notify", "broker"},
    "client": {"core", "protocol"},
    "config": {"core"},
    "certificates": set[str](),
    "reset": {"core", "store", "transport"},
    "cli": {"core", "config", "store", "app", "certificates", "reset", "client"},
    "__main__": {"cli"},
    "pytest_plugin": {"embedded"},
    "__init__": {"embedded"},
}
EVERYTHING = {"app", "node", "embedded"}

# Engines of one contract, and doors to one broker: none knows of the other.
STRANGERS = [
    {"store.memory", "store.sql", "store.redis"},
    {"notify.local", "notify.postgres", "notify.redis"},
    {f"transport.{door}" for door in ("rest", "websocket", "longpoll", "sse", "graphql", "webhooks", "dashboard")},
]

# What a pure part has no use for: I/O, clocks, chance, tasks and threads.
IMPURE = {
    *("asyncio", "concurrent", "multiprocessing", "threading", "subprocess", "signal"),
    *("os", "io", "pathlib", "shutil", "tempfile", "socket", "ssl", "sqlite3"),
    *("time", "random", "secrets", "uuid"),
    *("aiosqlite", "anyio", "httpx", "sqlalchemy", "starlette", "uvicorn", "uvloop", "websockets"),
}

# Imported by name, and installed by an extra of something that is declared.
COMES_WITH = {"uvloop": "uvicorn", "httptools": "uvicorn"}

OURS = {"streambroker", "workers", "bench", "tests"}


class Import(NamedTuple):
    """One module that another one imports, by their full names, and where."""

    importer: str
    imported: str
    place: str


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(*packages: str) -> Iterator[Import]:
    """Every import statement below these directories, those for type checkers and in functions among them."""
    for path in sorted(path for package in packages for path in (ROOT / package).rglob("*.py")):
        importer = module_name(path)
        for node in ast.walk(ast.parse(path.read_text(), path)):
            match node:
                case ast.Import(names=names):
                    found = [alias.name for alias in names]
                case ast.ImportFrom(module=module, names=names, level=0) if module:
                    found = [f"{module}.{alias.name}" for alias in names]
                case ast.ImportFrom():
                    raise AssertionError(f"{path}:{node.lineno}: a relative import; say the full name")
                case _:
                    continue
            for name in found:
                yield Import(importer, name, f"{path.relative_to(ROOT)}:{node.lineno}")


def part(module: str) -> str:
    """The part of streambroker that a module belongs to: a package's name, or a module's beside the packages."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def inside(module: str, name: str) -> bool:
    return f"{module}.".startswith(f"streambroker.{name}.")


OWN = [found for found in imports("streambroker") if found.imported.split(".")[0] == "streambroker"]


def test_every_part_has_its_place() -> None:
    parts = {part(module_name(path)) for path in (ROOT / "streambroker").rglob("*.py")}
    assert parts <= MAY_IMPORT.keys() | EVERYTHING


def test_imports_point_to_the_left() -> None:
    wrong = [
        f"{place}: {importer} imports {imported}"
        for importer, imported, place in OWN
        if part(importer) not in EVERYTHING
        and part(imported) not in {part(importer), *MAY_IMPORT[part(importer)]}
        and imported != "streambroker.__version__"
    ]
    assert wrong == []


@pytest.mark.parametrize("strangers", STRANGERS, ids=lambda strangers: min(strangers).split(".")[0])
def test_engines_and_doors_do_not_know_each_other(strangers: set[str]) -> None:
    wrong = [
        f"{place}: {importer} imports {imported}"
        for importer, imported, place in OWN
        for one in strangers
        for other in strangers - {one}
        if inside(importer, one) and inside(imported, other)
    ]
    assert wrong == []


def test_core_and_protocol_are_pure() -> None:
    wrong = [
        f"{place}: {importer} imports {imported}"
        for importer, imported, place in imports("streambroker/core", "streambroker/protocol")
        if imported.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_workers_and_benchmarks_are_clients() -> None:
    wrong = [
        f"{place}: {importer} imports {imported}"
        for importer, imported, place in imports("workers", "bench")
        if imported.split(".")[0] == "streambroker"
        and not inside(imported, "client")
        and importer != "bench.unobserved"  # starts a broker with its counters taken out, for a comparison
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("streambroker", ["cert", "cli", "client", "embedded", "graphql", "otel", "pytest", "webhooks"]),
        ("workers", ["workers"]),
        ("tests", ["dev"]),
    ],
)
def test_what_is_imported_is_declared(package: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    declared = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in [*project["dependencies"], *optional]}
    distributions = packages_distributions()
    wrong = []
    for found in imports(package):
        name = found.imported.split(".")[0]
        if name in sys.stdlib_module_names or name in OURS:
            continue
        installed_as = {COMES_WITH.get(name, distribution.lower()) for distribution in distributions.get(name, [name])}
        if not installed_as & declared:
            wrong.append(f"{found.place}: {name}")
    assert wrong == []
