"""The broker's own command with one promise broken on purpose: proof that the tests would notice.

``python broken.py FAULT serve …`` runs the command with one of the `FAULTS` in it; everything else is the broker as it
is.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COMMIT_DELAY = 0.03
"""Seconds between an answer and its commit: wide enough that a random kill falls into it."""


def broken_command(fault: str) -> tuple[str, ...]:
    """The command line for a `BrokerProcess` with this fault."""
    if fault not in FAULTS:
        raise ValueError(f"no such fault: {fault}")
    return (sys.executable, str(Path(__file__)), fault, "serve")


def ack_before_commit() -> None:
    """Settles are answered, and only then committed."""
    from streambroker.store.contract import Settle

    _answer_before_commit(Settle)


def publish_before_commit() -> None:
    """Publishes are answered, and only then committed."""
    from streambroker.store.contract import Publish

    _answer_before_commit(Publish)


def synchronous_normal() -> None:
    """Commits reach the page cache and not the disk: every queue is treated as a `memory` one."""
    from streambroker.store.sql.engine import SqliteEngine

    _replace(SqliteEngine, "_is_relaxed", lambda engine, command: True)


def failures_ignored() -> None:
    """Nothing that the database reports is taken for the end: a commit whose fsync failed is simply tried again."""
    from streambroker.store.sql import transactions

    if not transactions._FATAL:
        raise SystemExit("transactions has no _FATAL: bring tests/system/broken.py up to date")
    transactions._FATAL = ()  # type: ignore[assignment]


def quota_ignored() -> None:
    """There is always room, whatever the quota says."""
    from streambroker.store.sql.room import Room

    _replace(Room, "admit", lambda room, messages, size: None)


def unbounded() -> None:
    """Any number of publishes may wait for a commit."""
    from streambroker.store.groupcommit import GroupCommit

    _replace(GroupCommit, "_admit", lambda commits, command: 0)


def _answer_before_commit(kind: type[Any]) -> None:
    """Commands of one kind run in a transaction that stays open until the turn's answers are out."""
    from streambroker.store.sql.engine import SqliteEngine

    whole_turn, tidy, work = SqliteEngine.turn, SqliteEngine.tidy, SqliteEngine.work

    def commit(engine: Any) -> None:
        if engine._db.in_transaction:
            time.sleep(COMMIT_DELAY)
            engine._db.execute("COMMIT")
            engine.catalog.commit()

    def turn(engine: Any, commands: Sequence[Any]) -> list[Any]:
        hasty = [index for index, command in enumerate(commands) if type(command) is kind]
        others = [index for index, command in enumerate(commands) if type(command) is not kind]
        answers: list[Any] = [None] * len(commands)
        for index, answer in zip(others, whole_turn(engine, [commands[i] for i in others]), strict=True):
            answers[index] = answer
        if hasty:
            engine.catalog.begin()
            engine._db.execute("BEGIN IMMEDIATE")
            for index, answer in zip(hasty, engine._apply([commands[i] for i in hasty]), strict=True):
                answers[index] = answer
        return answers

    def work_after_commit(engine: Any, function: Any) -> Any:
        commit(engine)
        return work(engine, function)

    def tidy_after_commit(engine: Any) -> None:
        commit(engine)
        tidy(engine)

    _replace(SqliteEngine, "turn", turn)
    _replace(SqliteEngine, "work", work_after_commit)
    _replace(SqliteEngine, "tidy", tidy_after_commit)


def _replace(owner: type[Any], name: str, function: Callable[..., Any]) -> None:
    """Fail at once when the broker no longer has what the fault replaces, instead of running it whole."""
    if not hasattr(owner, name):
        raise SystemExit(f"{owner.__name__} has no {name}: bring tests/system/broken.py up to date")
    setattr(owner, name, function)


FAULTS: dict[str, Callable[[], None]] = {
    "ack-before-commit": ack_before_commit,
    "publish-before-commit": publish_before_commit,
    "synchronous-normal": synchronous_normal,
    "failures-ignored": failures_ignored,
    "quota-ignored": quota_ignored,
    "unbounded": unbounded,
}


if __name__ == "__main__":
    # As with `python -m`: the repository is on the path, this directory is not.
    sys.path[0] = str(Path(__file__).parents[2])
    FAULTS[sys.argv.pop(1)]()
    runpy.run_module("streambroker", run_name="__main__", alter_sys=True)
