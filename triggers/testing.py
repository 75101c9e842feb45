"""The test kit for people who write triggers: decide what triggers do with events, with no service and no store.

`Rules` are those of a configuration. Time stands still until a test moves it; joins, counts, silences and calendars
come about as it passes.

>>> rules = Rules.from_yaml('''
... sensors:
...   orders: {kind: webhook, path: /hooks/orders, verify: {scheme: bearer, secret: "env:TOKEN"}}
... triggers:
...   big:
...     on: {sensor: orders}
...     when: event.data.amount > 100
...     run: {pipeline: report, params: {amount: "${{ event.data.amount }}"}}
... pipelines:
...   report: {engine: command, argv: [echo]}
... ''')
>>> _ = rules.at("06:00").receive(event("orders", data={"amount": 250})).fires("big", params={"amount": 250})
>>> _ = rules.receive(event("orders", data={"amount": 5})).decides("big", "filtered", clause="when")

`decide` judges triggers that were made in Python, all events at once.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from config import trying
from sensors import uid as uids
from sensors.event import Event
from triggers.bench import Bench, Verdict
from triggers.calendar import next_time
from triggers.evaluator import RuleSet
from triggers.functions import zone
from triggers.seen import Seen
from triggers.trigger import Trigger

__all__ = ["Rules", "Seen", "Verdict", "api", "decide", "event", "sample"]

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
    """Build an event. `data` is a JSON value or raw bytes; `id` defaults to a hash of the rest, `at` is its arrival.

    >>> event("orders", subject="a.csv", data={"size": 3}).data
    b'{"size":3}'
    """
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


def sample(kind: str, sensor: str | None = None, **fields: Any) -> Event:
    """Return the sample event of a sensor kind, as `tidegate kinds KIND --sample` prints it.

    `sensor` is its sensor (default: the kind's name); `fields` replace the sample's: `type`, `subject`, `data` (a JSON
    value), `attributes`, `match`, `id`, `source`. Raises ValueError for an unknown kind.
    """
    return trying.sample(kind, sensor or kind, _micros(_START), fields)


_AFTER = re.compile(r"\+(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Rules:
    """The triggers of a configuration, and a clock that a test moves.

    Keys, lanes and what joins wait for are remembered as in the service; started runs go on, and sensors can be heard
    all the time. Moments are `"06:00"` (the next such time, in `timezone`), `"2026-01-31T06:00Z"`, `"+5m"`, or a
    datetime.
    """

    def __init__(
        self,
        triggers: Iterable[Trigger] | Mapping[str, Trigger],
        *,
        start: datetime = _START,
        timezone: str = "UTC",
        concurrency: Mapping[str, int] | None = None,
        samples: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Take triggers made in Python; see `from_yaml` and `from_config`. The clock stands at `start`.

        Raises triggers.errors.RuleError for triggers that cannot be used.
        """
        named = dict(triggers) if isinstance(triggers, Mapping) else {trigger.name: trigger for trigger in triggers}
        rules = RuleSet(named, config_hash="test", concurrency=concurrency or {})
        self._bench = Bench(rules)
        self._names = tuple(rules.rules)
        self._timezone = timezone
        self._samples = dict(samples or {})
        self._now = _micros(start)
        self._seen: list[Verdict] = []
        self._bench.begin(self._now)

    @classmethod
    def from_yaml(cls, text: str, *, start: datetime = _START, timezone: str = "UTC") -> "Rules":
        """Take the triggers of a configuration that stands in a text. Secrets need not be there.

        Raises config.problems.ConfigProblems with everything that is wrong with it.
        """
        return cls._of(trying.tried_text(text), start, timezone)

    @classmethod
    def from_config(cls, *paths: str | os.PathLike[str], start: datetime = _START, timezone: str = "UTC") -> "Rules":
        """Take the triggers of configuration files, one layer. Secrets need not be there.

        Raises config.problems.ConfigProblems with everything that is wrong with them.
        """
        return cls._of(trying.tried_file(*(Path(path) for path in paths)), start, timezone)

    @classmethod
    def _of(cls, tried: trying.Tried, start: datetime, timezone: str) -> "Rules":
        return cls(tried.triggers, start=start, timezone=timezone, concurrency=tried.concurrency, samples=tried.samples)

    @property
    def now(self) -> datetime:
        """Return what the clock shows, in UTC."""
        return _EPOCH + timedelta(microseconds=self._now)

    @property
    def seen(self) -> Seen:
        """Return all verdicts so far."""
        return Seen(self._seen, self._names)

    def at(self, moment: str | datetime) -> "Rules":
        """Let time pass up to a moment; what comes about meanwhile is in `seen`. Raises ValueError for one in the past.

        >>> Rules([]).at("06:00").at("+90m").now.isoformat()
        '2026-01-01T07:30:00+00:00'
        """
        self.advance(moment)
        return self

    def advance(self, to: str | datetime) -> Seen:
        """Let time pass up to a moment, and return what that brought about. Raises ValueError for one in the past."""
        moment = self._moment(to)
        if moment < self._now:
            raise ValueError(f"{to} lies before {self.now.isoformat()}, and the clock of the rules only goes forward")
        self._now = moment
        return self._take(self._bench.pass_time(moment))

    def receive(self, *events: Event) -> Seen:
        """Let events come now, one after the other, and return what the triggers made of them.

        The events count as received now, whatever they say themselves; their `time` stays what it is.
        """
        found: list[Verdict] = []
        for one in events:
            due = self._bench.pass_time(self._now)
            found += [*due, *self._bench.judge(replace(one, received_at=self._now), self._now)]
        return self._take(found)

    def sample(self, sensor: str, **fields: Any) -> Event:
        """Return a sample event of a configured sensor; `fields` as in `sample`. Raises KeyError for an unknown one."""
        if sensor not in self._samples:
            raise KeyError(f"there is no sensor {sensor}; there are {', '.join(self._samples) or 'none'}")
        return trying.make_event(fields, sensor, self._samples, self._now)

    def _take(self, verdicts: Sequence[Verdict]) -> Seen:
        self._seen += verdicts
        return Seen(verdicts, self._names)

    def _moment(self, moment: str | datetime) -> int:
        if isinstance(moment, str):
            after = _AFTER.fullmatch(moment)
            if after is not None:
                return self._now + round(float(after[1]) * _UNITS[after[2]] * 1e6)
            if len(moment) in (5, 8) and moment[2] == ":":
                return next_time(moment, self._timezone, self._now - 1)
            moment = datetime.fromisoformat(moment)
        return _micros(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone(self._timezone)))


def _micros(moment: datetime) -> int:
    whole = moment - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds
