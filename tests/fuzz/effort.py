"""How hard the fuzz tests try.

CI makes the same cases each time. Who sets ``SBTEST_CASES`` gets so many random ones, of each kind, and
other ones at each run; a failure then prints what reproduces it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_ASKED_FOR = os.environ.get("SBTEST_CASES")
REPEATABLE = _ASKED_FOR is None


def cases(usual: int) -> int:
    """How many random cases to make where CI makes the `usual` number."""
    return usual if _ASKED_FOR is None else int(_ASKED_FOR)


def tries(usual: int) -> settings:
    """Hypothesis's settings for a test that makes the `usual` number of cases."""
    return settings(
        max_examples=cases(usual),
        deadline=None,  # a slow machine is no failure
        derandomize=REPEATABLE,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
