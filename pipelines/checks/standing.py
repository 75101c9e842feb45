"""What workers do for datasets that stand by themselves: judge them by checks, ask how fresh they are.

Functions that a worker process calls by name (`pipelines.workers.job`), with plain values in and out. What cannot be
done raises TaskFailed with a sentence: a dataset that cannot be asked is not thereby bad, or stale.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.checks.evaluate import evaluate
from pipelines.checks.finding import Around
from pipelines.checks.results import failures, told
from pipelines.checks.spec import from_plain
from pipelines.datasets.asking import ask, opened, shown
from pipelines.datasets.written import TargetBusy, TargetUnusable
from pipelines.errors import TaskFailed
from pipelines.workers.functions import Functions

_AHEAD = 86_400_000_000  # µs that an answer may lie in the future: a date of today, a clock that is ahead


def judge_dataset(
    uri: str,
    dataset: str,
    checks: Sequence[Mapping[str, Any]],
    base: str,
    sys_path: Sequence[str] = (),
    connection: Mapping[str, Any] | None = None,
    connections: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what checks find of a dataset where it lies: `{checks, failed, rows, schema}`."""
    functions = Functions()
    around = Around(
        now=time.time_ns() // 1000,
        remembers=False,
        resolve=lambda reference: functions.named(reference, base, sys_path),
        base=Path(base),
        connections=connections or {},
    )
    try:
        with opened(uri, connection, Path(base)) as data:
            findings = evaluate(data, [from_plain(check) for check in checks], around)
    except TargetBusy as error:
        raise TaskFailed(str(error), "busy") from error
    except TargetUnusable as error:
        raise TaskFailed(str(error), "input") from error
    return {"checks": told(findings, dataset), "failed": failures(findings)}


def probe(
    uri: str, query: str, base: str, timezone: str = "UTC", connection: Mapping[str, Any] | None = None
) -> int | None:
    """Return what a query says how fresh a dataset is, as UTC microseconds; None when it answers NULL, or no row."""
    try:
        rows = ask(uri, connection, query, Path(base), 60.0)
    except TargetBusy as error:
        raise TaskFailed(str(error), "busy") from error
    except (TargetUnusable, ValueError) as error:
        raise TaskFailed(str(error), "probe") from error
    return answered(rows, timezone, time.time_ns() // 1000, shown(uri))


def answered(rows: Sequence[Sequence[Any]], timezone: str, now: int, dataset: str) -> int | None:
    """Read the answer of a probe: one value that is a moment. Raises TaskFailed for anything else."""
    if len(rows) > 1 or any(len(row) != 1 for row in rows):
        said = f"{len(rows)} rows" if len(rows) > 1 else f"{len(rows[0])} columns"
        raise TaskFailed(f"the probe of {dataset} answered {said}; write one that selects one moment", "probe")
    value = rows[0][0] if rows else None
    if value is None:
        return None
    try:
        moment = _moment(value, timezone)
    except (TypeError, ValueError, OverflowError):
        raise TaskFailed(
            f"the probe of {dataset} answered {value!r}; write one that selects a date, a time, or seconds since 1970",
            "probe",
        ) from None
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICRO
    if at > now + _AHEAD:
        raise TaskFailed(
            f"the probe of {dataset} answered {moment.isoformat()}, which lies in the future; "
            "select a time at which something was written",
            "probe",
        )
    return at


_MICRO = datetime(1970, 1, 1, 0, 0, 0, 1) - datetime(1970, 1, 1)  # noqa: DTZ001 - a difference has no zone


def _moment(value: Any, timezone: str) -> datetime:
    """Return an answer as a moment: a time without a zone is UTC, a date begins in `timezone`."""
    if isinstance(value, bool):
        raise TypeError("a truth value is no moment")
    if isinstance(value, str):
        value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=ZoneInfo(timezone))
    return datetime.fromtimestamp(float(value), UTC)
