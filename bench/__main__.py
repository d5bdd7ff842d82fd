"""``python -m bench``: run the scenarios and write the table.

python -m bench                         every scenario, five rounds
python -m bench --quick                 smaller sizes, three rounds
python -m bench --only flow --only rest
python -m bench --rounds 7 --name july  results/july.md and results/july.json
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.figures import Outcome
from bench.machine import describe, disk, durability
from bench.plan import FULL, QUICK, Plan
from bench.report import Run, judgement, write_json, write_markdown
from bench.scenarios import SCENARIOS
from bench.servers import REPOSITORY

RESULTS = Path(__file__).resolve().parent / "results"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="a scenario; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (5; quick 3)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds; proves nothing")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for a quiet machine, each time")
    parser.add_argument("--name", help="name of the files in bench/results (latest, or quick)")
    parser.add_argument("--json", type=Path, help="write the JSON there instead")
    return parser.parse_args(argv)


def progress(text: str) -> None:
    """One line to standard error, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run_scenario(name: str, plan: Plan) -> Outcome:
    """Run one scenario, print its verdicts."""
    started = time.monotonic()
    progress(f"{name}: starts")
    outcome = SCENARIOS[name](plan, progress)
    outcome.seconds = time.monotonic() - started
    for verdict in outcome.verdicts():
        progress(f"{verdict.text}: {verdict.figure:.3g} {verdict.unit} {judgement(verdict)}")
    return outcome


def main(argv: list[str] | None = None) -> int:
    """Run what was asked; 0 when every side of every scenario could be measured, 1 otherwise."""
    options = parse(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = QUICK if options.quick else FULL
    plan = msgspec.structs.replace(plan, patience_seconds=options.patience)
    if options.rounds:
        plan = msgspec.structs.replace(plan, rounds=options.rounds)
    name = options.name or ("quick" if options.quick else "latest")
    run = Run(
        started_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        plan=plan,
        quick=options.quick,
        facts=describe(REPOSITORY) | {"disk": disk()},
        durability=durability(),
        outcomes=[],
    )
    json_file = options.json or RESULTS / f"{name}.json"
    for scenario in options.only or SCENARIOS:
        run.outcomes.append(run_scenario(scenario, plan))
        write_json(run, json_file)
        write_markdown(run, RESULTS / f"{name}.md")
    progress(f"written: bench/results/{name}.md")
    return 1 if any(outcome.failures for outcome in run.outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
