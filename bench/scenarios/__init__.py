"""The scenarios by name. Each is a function of the plan and a progress callback that returns its outcome."""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Outcome
from bench.plan import Plan
from bench.scenarios.common import Progress
from bench.scenarios.dashboards import dashboards
from bench.scenarios.drain import drain
from bench.scenarios.flow import flow
from bench.scenarios.hung import hung
from bench.scenarios.idle import idle
from bench.scenarios.latency import latency
from bench.scenarios.limits import limits
from bench.scenarios.logins import logins
from bench.scenarios.observe import observe
from bench.scenarios.publish import publish
from bench.scenarios.rest import rest, rest_single
from bench.scenarios.sdk import sdk
from bench.scenarios.start import start
from bench.scenarios.stats import stats
from bench.scenarios.webhooks import webhooks

Scenario = Callable[[Plan, Progress], Outcome]

SCENARIOS: dict[str, Scenario] = {
    "rest": rest,
    "rest-single": rest_single,
    "publish": publish,
    "flow": flow,
    "sdk": sdk,
    "drain": drain,
    "latency": latency,
    "idle": idle,
    "hung": hung,
    "limits": limits,
    "logins": logins,
    "observe": observe,
    "dashboards": dashboards,
    "webhooks": webhooks,
    "start": start,
    "stats": stats,
}
