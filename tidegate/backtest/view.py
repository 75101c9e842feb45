"""A report as plain data: what the API answers and what `--json` prints offline, the same to the letter."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tidegate.backtest.values import Changed, Failing, Firing, Flip, Reason, Report, TriggerDiff, Why
from tidegate.event_view import rfc3339


def report_view(report: Report) -> dict[str, Any]:
    """Return a report as plain data; moments are RFC 3339."""
    return {
        "baseline": report.baseline,
        "since": rfc3339(report.since),
        "until": rfc3339(report.until),
        "reached": rfc3339(report.reached),
        "warm_from": rfc3339(report.warm_from),
        "events": report.events,
        "stopped": report.stopped,
        "differs": report.differs,
        "early": report.early,
        "seconds": report.seconds,
        "triggers": [_trigger(one) for one in report.triggers],
    }


def _trigger(one: TriggerDiff) -> dict[str, Any]:
    before, after = one.versions
    return {
        "trigger": one.trigger,
        "version_before": before,
        "version_after": after,
        "events": one.events,
        "before": dict(one.before),
        "after": dict(one.after),
        "same": one.same,
        "gained": one.gained,
        "lost": one.lost,
        "changed": one.changed,
        "gained_samples": _flips(one.gained_samples),
        "lost_samples": _flips(one.lost_samples),
        "changed_samples": [_changed(sample) for sample in one.changed_samples],
        "failing_samples": [_failing(sample) for sample in one.failing_samples],
        "gained_why": _reasons(one.gained_why),
        "lost_why": _reasons(one.lost_why),
        "explained": one.explained,
    }


def _flips(samples: Sequence[Flip]) -> list[dict[str, Any]]:
    return [{**_firing(sample.firing), "why": _why(sample.why)} for sample in samples]


def _changed(sample: Changed) -> dict[str, Any]:
    fields = {
        name: {"before": _at(name, before), "after": _at(name, after)}
        for name, (before, after) in sample.fields.items()
    }
    return {**_firing(sample.firing), "fields": fields}


def _at(name: str, value: Any) -> Any:
    return rfc3339(value) if name == "at" else value


def _failing(sample: Failing) -> dict[str, Any]:
    return {"events": list(sample.events), "at": rfc3339(sample.at), "why": _why(sample.why)}


def _firing(firing: Firing) -> dict[str, Any]:
    return {
        **asdict(firing),
        "at": rfc3339(firing.at),
        "events": list(firing.events[:100]),
        "params": dict(firing.params),
    }


def _why(why: Why) -> Mapping[str, Any]:
    clause = why.clause
    return {"outcome": why.outcome, "reason": why.reason, "clause": None if clause is None else dict(clause)}


def _reasons(found: Sequence[Reason]) -> list[Mapping[str, Any]]:
    return [asdict(reason) for reason in found]
