"""Named points at which a process can be made to die, for the campaigns that prove what a crash may not do.

Off unless `TIDEGATE_FAILPOINT` names one: `store.before_commit` dies at its first pass, `store.before_commit:7` at its
seventh. Death is SIGKILL to this very process, so no handler, no flush, no `finally` runs.
"""

import os
import signal
from collections.abc import Callable, Mapping

FailPoint = Callable[[str], None]

POINTS = (
    "ingest.begin",
    "ingest.ids",
    "ingest.events",
    "ingest.decided",
    "ingest.runs",
    "ingest.acked",
    "join.met",
    "join.rung",
    "replay.begun",
    "replay.started",
    "replay.moved",
    "store.begin",
    "store.before_commit",
    "store.after_commit",
    "dispatch.claimed",
    "dispatch.before_start",
    "dispatch.after_start",
    "dispatch.before_advance",
    "dispatch.after_advance",
    "alerts.planned",
    "alerts.before_send",
    "alerts.after_send",
)


def pass_by(name: str) -> None:
    """Do nothing: the fail point of a service that is not under test."""


def make_fail_point(environ: Mapping[str, str]) -> FailPoint:
    """Read `TIDEGATE_FAILPOINT`; return the function that the service calls at each named point.

    Raises ValueError for a name that does not exist: an armed point that can never fire proves nothing.
    """
    armed = environ.get("TIDEGATE_FAILPOINT", "")
    if not armed:
        return pass_by
    name, _, count = armed.partition(":")
    if name not in POINTS:
        raise ValueError(f"TIDEGATE_FAILPOINT names {name!r}, which is none of: {', '.join(POINTS)}")
    left = int(count or "1")

    def fail_point(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return fail_point
