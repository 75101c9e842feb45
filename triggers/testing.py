"""The test kit for people who write triggers: decide what triggers do with events, with no service and no store.

from triggers.testing import decide, event

def test_only_parquet_files_fire() -> None:
    verdicts = decide(triggers, [event("orders", subject="a.csv"), event("orders", subject="b.parquet")])
    assert [verdict.outcome for verdict in verdicts] == ["filtered", "fired"]
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from sensors import uid as uids
from sensors.event import Event
from triggers.bench import Bench, Verdict
from triggers.evaluator import RuleSet
from triggers.trigger import Trigger

__all__ = ["Verdict", "api", "decide", "event"]

api = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(2026, 1, 1, tzinfo=UTC)


def event(
    sensor: str,
    *,
    type: str = "test",
    subject: str | None = None,
    data: Any = None,
    id: str | None = None,
    attributes: Mapping[str, str] | None = None,
    match: Mapping[str, str] | None = None,
    at: datetime = _START,
    **fields: Any,
) -> Event:
    """Build an event. `data` is a JSON value or raw bytes; `id` defaults to a hash of the rest, `at` is its arrival."""
    raw = data if isinstance(data, bytes) or data is None else orjson.dumps(data)
    content_type = None if raw is None or isinstance(data, bytes) else "application/json"
    whole = repr((sensor, type, subject, raw, dict(attributes or {}), dict(match or {}), at)).encode()
    name = hashlib.sha256(whole).hexdigest() if id is None else id
    entropy = hashlib.sha256(f"{sensor}\0{name}".encode("utf-8", "surrogatepass")).digest()[:10]
    received_at = _micros(at)
    values: dict[str, Any] = {
        "sensor": sensor,
        "id": name,
        "uid": uids.make_uid(uids.EVENT, received_at, entropy),
        "source": f"/test/{sensor}",
        "type": type,
        "subject": subject,
        "data": raw,
        "content_type": content_type,
        "attributes": attributes or {},
        "match": match or {},
        "received_at": received_at,
    }
    return Event(**{**values, **fields})


def decide(
    triggers: Iterable[Trigger] | Mapping[str, Trigger],
    events: Iterable[Event],
    *,
    at: datetime | None = None,
    until: datetime | None = None,
    concurrency: Mapping[str, int] | None = None,
) -> list[Verdict]:
    """Judge events one after another, remembering run keys, lanes and what joins wait for; started runs go on.

    One verdict per event and trigger that listens to it (per element and run, where there are several), in order, and
    one for what time does in between (a key that is overdue, a silence), whose event is of type `time.passed`. Time
    goes on with the events' arrival, at the end to `until`; sensors can be heard all the time. `at` is `now` in
    expressions (default: when each event came). Raises triggers.errors.RuleError for triggers that cannot be used.
    """
    named = dict(triggers) if isinstance(triggers, Mapping) else {trigger.name: trigger for trigger in triggers}
    bench = Bench(RuleSet(named, config_hash="test", concurrency=concurrency or {}))
    verdicts: list[Verdict] = []
    for one in events:
        now = one.received_at if at is None else _micros(at)
        verdicts += [*bench.pass_time(now), *bench.judge(one, now)]
    return verdicts if until is None else [*verdicts, *bench.pass_time(_micros(until))]


def _micros(moment: datetime) -> int:
    whole = moment - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds
