"""Datasets watched by the clock: handlers of durable timers, and what probes answer.

In flow timers that are due, and answers of probes; out flow the state of each dataset (a setting), own events and
alerts, in one transaction. A dataset goes stale once: the event and the alert come with the change of its state, and
are named after it, so that of several replicas one tells. Of a dataset that has a probe only the probe tells; while
it cannot be asked, its state is unknown, which is not stale.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from pipelines.freshness import judge, told
from sensors.event import Event
from tidegate.absorb import Facts
from tidegate.alerts.alert import Alert
from tidegate.alerts.raising import raise_alerts
from tidegate.rules import Rules, RulesInForce
from tidegate.runs import OwnEvents
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from tidegate.watch_events import dataset_event, probe_alert, stale_alert
from tidegate.watching import FRESHNESS as KIND
from tidegate.watching import WatchedDataset

STATE = "freshness/"  # settings: the state of each dataset by name
PROBE_WITHIN = 90.0  # seconds that a probe may take, with waiting for a worker
_AGAIN = 150_000_000  # µs after which another replica asks, because nobody answered
_UNKNOWN_NAME = 60_000_000  # µs until a replica that knows of the dataset has taken its timer
_RETRY = 60.0  # seconds until a probe that failed is asked again, if not before


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a dataset stands. Moments are UTC microseconds.

    `since` is when it was first watched, `episode` counts how often it went stale, `failures` how often its probe
    began to fail. `error` is why it cannot be told how fresh it is (None: it can).
    """

    since: int
    state: str = "fresh"  # or "stale"
    updated: int | None = None
    checked: int | None = None
    stale_since: int | None = None
    reason: str = ""
    episode: int = 0
    error: str | None = None
    error_since: int | None = None
    failures: int = 0

    def to_json(self) -> str:
        """Return it as it is stored."""
        return orjson.dumps(asdict(self)).decode()


def standing_of(text: str) -> Standing:
    """Read what `to_json` made; fields of a newer version are left out."""
    known = Standing.__dataclass_fields__
    return Standing(**{name: value for name, value in orjson.loads(text).items() if name in known})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe said: when the dataset was updated (None: it holds nothing), or why it could not be asked."""

    dataset: str
    updated: int | None = None
    error: str | None = None


class FreshnessTimers:
    """Handles the timers of datasets. `ask` is told whose probe is to be asked by this process."""

    def __init__(self, rules: RulesInForce, own: OwnEvents, service: str, ask: Callable[[str], None]) -> None:
        self._rules = rules
        self._own = own
        self._service = service
        self._ask = ask

    def ring(self, tx: Tx, timer: Timer) -> Facts | None:
        """Look at a dataset whose time has come."""
        rules, name = self._rules.current, timer.key
        watched = rules.freshness.datasets.get(name)
        if watched is None:
            if name in _standings(tx, name):  # another replica has a newer configuration, or an older one
                tx.set_timers([Timer(tx.now() + _UNKNOWN_NAME, KIND, name)])
            return None
        if watched.probe is not None:
            tx.set_timers([Timer(tx.now() + _AGAIN, KIND, name)])
            self._ask(name)
            return None
        written = tx.written_at(watched.names)
        return Telling(tx, rules, self._own, self._service).judge(watched, max(written.values(), default=None))


class TellAnswers:
    """The write that takes answers of probes."""

    name = "tell_freshness"

    def __init__(self, rules: RulesInForce, own: OwnEvents, service: str) -> None:
        self._rules = rules
        self._own = own
        self._service = service

    def __call__(self, tx: Tx, items: Sequence[Answer]) -> Sequence[Facts | None]:
        """Judge each dataset by its answer; answers to what is not watched any more are dropped."""
        rules = self._rules.current
        return [self._one(tx, rules, answer) for answer in items]

    def _one(self, tx: Tx, rules: Rules, answer: Answer) -> Facts | None:
        watched = rules.freshness.datasets.get(answer.dataset)
        if watched is None or watched.probe is None:
            return None
        telling = Telling(tx, rules, self._own, self._service)
        if answer.error is not None:
            return telling.unknown(watched, answer.error)
        return telling.judge(watched, answer.updated)


class Telling:
    """Writes how a dataset stands, and what that tells the world, in one transaction."""

    def __init__(self, tx: Tx, rules: Rules, own: OwnEvents, service: str) -> None:
        self._tx = tx
        self._rules = rules
        self._own = own
        self._service = service
        self._now = tx.now()

    def judge(self, watched: WatchedDataset, updated: int | None) -> Facts | None:
        """Take note of when a dataset was updated (None: never)."""
        before = self._before(watched.name)
        found = judge(watched.rule, updated, self._now, since=before.since)
        emptied = updated is None and before.updated is not None and watched.probe is not None
        fresh = found.fresh and not emptied
        reason = "it holds nothing any more" if emptied else found.reason
        now = replace(
            before,
            state="fresh" if fresh else "stale",
            updated=before.updated if emptied else updated,
            checked=self._now,
            stale_since=None if fresh else before.stale_since or found.stale_since or self._now,
            reason="" if fresh else reason,
            episode=before.episode + (not fresh and before.state == "fresh"),
            error=None,
            error_since=None,
        )
        events: list[Event] = []
        alerts: list[Alert] = []
        rules = self._rules.alerts
        if before.error is not None:
            said = "it can be told again how fresh it is"
            alerts.append(probe_alert(rules, watched.name, f"probe/{now.failures}", said, self._now, over=True))
        if now.state != before.state:
            text = reason if not fresh else f"updated at {told(updated or self._now, watched.rule.timezone)}"
            alerts.append(stale_alert(rules, watched.name, str(now.episode), text, self._now, over=fresh))
            events.append(self._event(watched, now))
        self._write(watched, now, self._next(watched, found.until))
        return self._tell(events, alerts)

    def unknown(self, watched: WatchedDataset, error: str) -> Facts | None:
        """Take note that it cannot be told how fresh a dataset is: it keeps its state, and is not called stale."""
        before = self._before(watched.name)
        first = before.error is None
        now = replace(
            before,
            checked=self._now,
            error=error,
            error_since=self._now if first else before.error_since,
            failures=before.failures + first,
        )
        due = self._now + round(min(_RETRY, watched.every) * 1e6)
        self._write(watched, now, due)
        if not first:
            return None
        alert = probe_alert(self._rules.alerts, watched.name, f"probe/{now.failures}", error, self._now)
        data = {"error": error, "updated_at": _moment(now.updated)}
        event = dataset_event(watched, "unknown", str(now.failures), data, self._service, self._now)
        return self._tell([event], [alert])

    def _before(self, name: str) -> Standing:
        found = _standings(self._tx, name).get(name)
        return Standing(since=self._now) if found is None else found

    def _event(self, watched: WatchedDataset, now: Standing) -> Event:
        data: dict[str, Any] = {
            "updated_at": _moment(now.updated),
            "stale_since": _moment(now.stale_since),
            "reason": now.reason,
        }
        return dataset_event(watched, now.state, str(now.episode), data, self._service, self._now)

    def _next(self, watched: WatchedDataset, until: int | None) -> int | None:
        if watched.probe is None:
            return until
        regular = self._now + round(watched.every * 1e6)
        return regular if until is None else min(regular, max(until, self._now + 1_000_000))

    def _write(self, watched: WatchedDataset, now: Standing, due: int | None) -> None:
        self._tx.put_setting(STATE + watched.name, now.to_json())
        if due is not None:
            self._tx.set_timers([Timer(due, KIND, watched.name)])

    def _tell(self, events: Sequence[Event], alerts: Sequence[Alert]) -> Facts | None:
        if not events and not alerts:
            return None
        facts = Facts()
        if self._rules.alerts.active:
            facts.alerts += raise_alerts(self._tx, self._rules.alerts, alerts)
        self._own.publish(self._tx, events, facts)
        return facts


class ArmFreshness:
    """The write that begins to watch what is configured, and ends to watch what is not; at every start and reload.

    Idempotent.
    """

    name = "arm_freshness"

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        """Arm."""
        rules, now = self._rules.current, tx.now()
        known = _standings(tx, "")
        for name in rules.freshness.datasets:
            if name not in known:
                tx.put_setting(STATE + name, Standing(since=now).to_json())
        tx.set_timers([Timer(now, KIND, name) for name in sorted(rules.freshness.datasets)])
        for name, standing in known.items():
            if name not in rules.freshness.datasets:
                tx.put_setting(STATE + name, None)
                _let_go(tx, rules, name, standing)
        return [None] * len(items)


def _let_go(tx: Tx, rules: Rules, name: str, standing: Standing) -> None:
    """End what people were told of a dataset that is not watched any more."""
    alerts, said = [], "it is not watched any more"
    if standing.state == "stale":
        alerts.append(stale_alert(rules.alerts, name, str(standing.episode), said, tx.now(), over=True))
    if standing.error is not None:
        alerts.append(probe_alert(rules.alerts, name, f"probe/{standing.failures}", said, tx.now(), over=True))
    if alerts and rules.alerts.active:
        raise_alerts(tx, rules.alerts, alerts)


def _standings(tx: Tx, name: str) -> dict[str, Standing]:
    """Return how datasets stand by name: those whose name begins so."""
    return {key.removeprefix(STATE): standing_of(text) for key, text in tx.get_settings(STATE + name).items()}


def _moment(at: int | None) -> str | None:
    return None if at is None else told(at)
