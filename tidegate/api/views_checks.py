"""From results of checks and states of datasets to what the API answers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import orjson

from pipelines.datasets.asking import shown
from tidegate.api.models_checks import CheckView, FreshnessView, State
from tidegate.api.views import maybe, moment
from tidegate.freshness import STATE, Standing, standing_of
from tidegate.watching import WatchedDataset

Outcome = Literal["passed", "warned", "failed"]


def check_view(row: Mapping[str, Any]) -> CheckView:
    """Show one result."""
    return CheckView(
        check=row["check"],
        task=row["task"],
        dataset=row["dataset"],
        passed=row["passed"],
        severity="warn" if row["severity"] == "warn" else "fail",
        message=row["message"],
        expected=row["expected"],
        actual=row["actual"],
        sample=orjson.loads(row["sample"]) if row["sample"] else [],
        at=moment(row["at"]),
        run=row["run"],
    )


def standings(settings: Mapping[str, str]) -> dict[str, Standing]:
    """Read how datasets stand from the settings that keep it."""
    return {name.removeprefix(STATE): standing_of(text) for name, text in settings.items() if name.startswith(STATE)}


def freshness_view(watched: WatchedDataset, standing: Standing | None) -> FreshnessView:
    """Show how a watched dataset stands (None: nobody looked yet)."""
    now = standing or Standing(since=0)
    return FreshnessView(
        dataset=watched.name,
        uri=shown(watched.uri),
        state=state_of(now),
        expected=watched.rule.words(),
        updated_at=maybe(now.updated),
        stale_since=maybe(now.stale_since),
        checked_at=maybe(now.checked),
        reason=now.reason,
        error=now.error,
        probed=watched.probe is not None,
    )


def state_of(standing: Standing) -> State:
    """Return the state in one word."""
    if standing.error is not None:
        return "unknown"
    if standing.state == "stale":
        return "stale"
    return "fresh" if standing.updated is not None else "new"


def outcome_of(results: Iterable[Mapping[str, Any]]) -> Outcome | None:
    """Return in one word what the latest checks of a dataset found; None when there are none."""
    rows: Sequence[Mapping[str, Any]] = list(results)
    if not rows:
        return None
    broken = [row["severity"] for row in rows if not row["passed"]]
    return "passed" if not broken else "warned" if all(severity == "warn" for severity in broken) else "failed"
