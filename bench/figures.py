"""What a scenario hands back: measured series, and goals judged as ratios between them."""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.numbers import median, ratios

Better = Literal["higher", "lower"]


class Series(msgspec.Struct, kw_only=True):
    """One quantity of one side, one value a round."""

    side: str
    """``ours``, ``redis``, ``nats``, ``floor``, …"""
    unit: str
    values: list[float] = msgspec.field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.values)


class Goal(msgspec.Struct, kw_only=True):
    """One cell of the goal table.

    The measured figure is ``ours / reference`` of each round, then the median of the rounds; without ``reference`` it
    is the median of ``ours`` itself in its own unit.
    """

    text: str
    ours: str
    reference: str | None = None
    better: Better
    least: float | None = None
    aim: float | None = None


class Verdict(msgspec.Struct, kw_only=True):
    """A judged goal; ``figure`` is a ratio, or an absolute value in ``unit``."""

    text: str
    figure: float
    low: float
    high: float
    unit: str
    better: Better
    least: float | None
    aim: float | None
    least_met: bool | None
    aim_met: bool | None


class Outcome(msgspec.Struct, kw_only=True):
    """Everything one scenario measured."""

    name: str
    title: str
    method: str
    series: dict[str, Series] = msgspec.field(default_factory=dict)
    goals: list[Goal] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    failures: list[str] = msgspec.field(default_factory=list)
    """Sides that could not be measured, and why."""
    seconds: float = 0.0

    def add(self, key: str, side: str, unit: str, value: float) -> None:
        """Append one round's value to the series ``key``."""
        self.series.setdefault(key, Series(side=side, unit=unit)).values.append(value)

    def note(self, text: str) -> None:
        """Add a remark once."""
        if text not in self.notes:
            self.notes.append(text)

    def verdicts(self) -> list[Verdict]:
        """The goals whose series were measured, judged."""
        judged = (self._judge(goal) for goal in self.goals)
        return [verdict for verdict in judged if verdict is not None]

    def _judge(self, goal: Goal) -> Verdict | None:
        ours = self.series.get(goal.ours)
        reference = self.series.get(goal.reference) if goal.reference else None
        if ours is None or not ours.values or (goal.reference and reference is None):
            return None
        values = ours.values if reference is None else ratios(ours.values, reference.values)
        if not values:
            return None
        figure = median(values)
        return Verdict(
            text=goal.text,
            figure=figure,
            low=min(values),
            high=max(values),
            unit=ours.unit if reference is None else "x",
            better=goal.better,
            least=goal.least,
            aim=goal.aim,
            least_met=_met(figure, goal.least, goal.better),
            aim_met=_met(figure, goal.aim, goal.better),
        )


def _met(figure: float, bound: float | None, better: Better) -> bool | None:
    if bound is None:
        return None
    return figure >= bound if better == "higher" else figure <= bound
