"""A run as JSON and as Markdown."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.figures import Outcome, Series, Verdict
from bench.numbers import human
from bench.plan import Plan


class Run(msgspec.Struct, kw_only=True):
    """Everything of one ``python -m bench``."""

    started_at: str
    plan: Plan
    quick: bool
    facts: dict[str, str]
    durability: dict[str, str]
    outcomes: list[Outcome]


def write_json(run: Run, path: Path) -> None:
    """All values of all rounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def write_markdown(run: Run, path: Path) -> None:
    """The table of goals, then each scenario's method, medians and remarks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*_head(run), *_table(run), *_details(run)]) + "\n")


def _head(run: Run) -> list[str]:
    kind = "quick run: smaller sizes, fewer rounds; not for conclusions" if run.quick else "full run"
    return [
        "# Figures",
        "",
        (
            f"{run.started_at}, {kind}. {run.plan.rounds} rounds; in each the sides run one after the other and take "
            "turns in going first, every time on a fresh server with a fresh directory on the same disk. A figure is "
            "the median over the rounds of ours ÷ reference in that round; in brackets the smallest and largest."
        ),
        "",
        *(f"- {name}: {value}" for name, value in run.facts.items()),
        "",
        "What a confirmed publish means:",
        "",
        *(f"- `{side}`: {text}" for side, text in run.durability.items()),
        "",
    ]


def _table(run: Run) -> list[str]:
    lines = ["| figure | measured | at least | aim | verdict |", "|---|---|---|---|---|"]
    for outcome in run.outcomes:
        lines += [_row(verdict) for verdict in outcome.verdicts()]
        lines += [f"| {outcome.title} | failed, see below | | | **failed** |" for _ in outcome.failures[:1]]
    return [*lines, ""]


def _row(verdict: Verdict) -> str:
    sign = "≥" if verdict.better == "higher" else "≤"
    bounds = [f"{sign} {human(bound)}" if bound is not None else "" for bound in (verdict.least, verdict.aim)]
    unit = "x" if verdict.unit == "x" else f" {verdict.unit}"
    measured = f"**{human(verdict.figure)}{unit}** ({human(verdict.low)}-{human(verdict.high)})"
    return f"| {verdict.text} | {measured} | {bounds[0]} | {bounds[1]} | {judgement(verdict)} |"


def judgement(verdict: Verdict) -> str:
    """``aim``, ``ok``, ``ok, aim missed by …`` or ``**missed** by …``; empty when nothing is asked."""
    if verdict.least_met is False:
        return f"**missed** by {_distance(verdict.figure, verdict.least)}"
    if verdict.aim_met is False:
        return f"{'ok, ' if verdict.least_met else ''}aim missed by {_distance(verdict.figure, verdict.aim)}"
    if verdict.aim_met:
        return "aim"
    return "ok" if verdict.least_met else ""


def _distance(figure: float, bound: float | None) -> str:
    return f"{abs(figure - bound) / bound * 100:.0f} %" if bound else "-"


def _details(run: Run) -> list[str]:
    lines: list[str] = []
    for outcome in run.outcomes:
        lines += [f"## {outcome.title}", "", outcome.method, "", *_medians(outcome.series), ""]
        lines += [f"- {note}" for note in outcome.notes]
        for failure in outcome.failures:
            lines += ["", "Failed:", "", "```", failure, "```"]
        lines += [f"- Took {outcome.seconds:.0f} s.", ""]
    return lines


def _medians(series: dict[str, Series]) -> list[str]:
    """One table a group (the part of the key before the first dot): sides as rows, quantities as columns."""
    lines: list[str] = []
    for group in dict.fromkeys(key.split(".", 1)[0] for key in series):
        cells = {tuple(key.split(".", 2)[1:]): value for key, value in series.items() if key.startswith(f"{group}.")}
        sides = list(dict.fromkeys(side for side, _ in cells))
        columns = list(dict.fromkeys(quantity for _, quantity in cells))
        units = {quantity: value.unit for (_, quantity), value in cells.items()}
        lines += ["| " + " | ".join([group, *(f"{column} ({units[column]})" for column in columns)]) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for side in sides:
            medians = [human(cells[side, column].median) if (side, column) in cells else "" for column in columns]
            lines += ["| " + " | ".join([side, *medians]) + " |"]
        lines += [""]
    return lines[:-1]
