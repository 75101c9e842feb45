"""The task that tells people: looks what is due, sends it, keeps what came of it. One per process.

In flow the outbox, through the store; out flow messages to targets, a bounded number at a time, so that a target that
hangs keeps no other waiting. Of several replicas each sends what it claims. What cannot be delivered is logged, counted
and shown in `/readyz`. A look is taken when something was raised here, when something is due, and every few seconds for
what others raised; without routes there is one look after each change of the configuration, and no more.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sensors.clock import Clock
from sensors.polling import Alarm
from sensors.ports import Unavailable
from sensors.uid import ALERT_MESSAGE, new_uid
from tidegate.alerts.alert import Alert
from tidegate.alerts.delivery import Attempt, ClaimAsk, ClaimMessages, KeepAttempts, Kept
from tidegate.alerts.message import Place, trial_body
from tidegate.alerts.planning import PlanAlerts, Planned
from tidegate.alerts.raising import RaiseAlerts
from tidegate.alerts.targets import Answer, Target, make_target
from tidegate.failpoints import FailPoint, pass_by
from tidegate.rules import RulesInForce
from tidegate.store.alert_records import AlertMessage, Undelivered
from tidegate.store.tx import Store
from tidegate.telemetry.instruments import Instruments

AT_ONCE = 8  # messages being sent by one process
EVERY = 5.0  # seconds between looks for what others raised
_LEAST = 0.02  # seconds between looks that find nothing to do, although something is due
_LAST = 5.0  # seconds that messages being sent have when the service stops
_log = logging.getLogger("tidegate.alerts")
MakeTarget = Callable[[str, str], Target]


@dataclass(frozen=True, slots=True)
class Tried:
    """What a test message met at one target."""

    target: str
    ok: bool
    error: str


class AlertSender:
    """Tells people of what was raised. `wake` may be called at any time on the loop."""

    def __init__(
        self,
        store: Store,
        rules: RulesInForce,
        instruments: Instruments,
        clock: Clock,
        agent: str = "tidegate",
        make: MakeTarget = make_target,
        keep: KeepAttempts | None = None,
        fail_point: FailPoint = pass_by,
    ) -> None:
        self._store = store
        self._rules = rules
        self._instruments = instruments
        self._clock = clock
        self._agent = agent
        self._make = make
        self._fail_point = fail_point
        self._plan = PlanAlerts(rules)
        self._claim = ClaimMessages()
        self._keep = keep or KeepAttempts(rules)
        self._raise = RaiseAlerts(rules)
        self._alarm = Alarm(clock)
        self._targets: dict[str, Target] = {}  # by URL
        self._sending: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.undelivered: Sequence[Undelivered] = ()
        instruments.alerts_undelivered(lambda: {one.route: one.messages for one in self.undelivered})

    # -- life -------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="alerts")

    def wake(self) -> None:
        """Look now."""
        self._alarm.ring()

    async def stop(self) -> None:
        """Stop looking; messages being sent may end. What is left is sent after the next start."""
        self._stopping = True
        self.wake()
        if self._task is not None:  # first the loop: it makes the others
            await _ended({self._task})
        await _ended(self._sending)
        targets, self._targets = self._targets, {}
        for target in targets.values():
            await target.close()

    # -- what others ask --------------------------------------------------------------------------------------------
    async def tell(self, *alerts: Alert) -> None:
        """Raise alerts that are about nothing durable. Raises Unavailable."""
        if self._rules.current.alerts.active:
            await self._store.submit(self._raise, alerts)
            self.wake()

    async def test(self, route: str) -> Sequence[Tried]:
        """Send a test message to every target of a route, now; KeyError for an unknown one."""
        rules = self._rules.current.alerts
        urls = rules.routes[route].to
        now = self._clock.now()
        body = trial_body(new_uid(ALERT_MESSAGE, now), Place(rules.service, route, rules.base_url), now)
        targets = [self._target(url) for url in urls]
        answers = await asyncio.gather(*(target.send(body) for target in targets))
        return [Tried(target.shown, answer.ok, answer.error) for target, answer in zip(targets, answers, strict=True)]

    # -- the loop ---------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while not self._stopping:
            try:
                wait = await self._look()
            except Unavailable as error:
                wait = max(1.0, error.retry_after)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in one look, the next one is taken
                _log.exception("alerts cannot be looked at now: %s", error, extra={"action": "alerts_failed"})
                wait = EVERY
            await self._alarm.wait(wait)

    async def _look(self) -> float | None:
        """Plan and begin to send; return when to look again."""
        await self._close_stale()
        planned = await self._store.submit(self._plan, None)
        self._count(planned)
        if planned.messages:
            self._fail_point("alerts.planned")
        free = 0 if self._stopping else AT_ONCE - len(self._sending)
        claimed: Sequence[AlertMessage] = await self._store.submit(self._claim, ClaimAsk(free)) if free > 0 else ()
        for message in claimed:
            task = asyncio.create_task(self._deliver(message), name=f"alert {message.message}")
            self._sending.add(task)
            task.add_done_callback(self._sent)
        active = self._rules.current.alerts.active
        if planned.wait is None:
            return EVERY if active else None
        if planned.wait == 0 and free <= len(claimed):
            return EVERY  # whoever ends first wakes us
        least = 0.0 if claimed or planned.messages else _LEAST
        return min(max(planned.wait, least), EVERY)

    async def _close_stale(self) -> None:
        """Let go of targets that no route names any more, while nothing is being sent."""
        named = {url for route in self._rules.current.alerts.routes.values() for url in route.to}
        stale = [url for url in self._targets if url not in named] if not self._sending else []
        for url in stale:
            await self._targets.pop(url).close()

    def _count(self, planned: Planned) -> None:
        for (route, kind), n in planned.suppressed.items():
            self._instruments.alert(route, kind, "suppressed", n)
        self.undelivered = planned.undelivered

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "an alert was tried, and what came of it is unknown: %s", error, extra={"action": "alerts_failed"}
            )
        self.wake()

    async def _deliver(self, message: AlertMessage) -> None:
        """Make one attempt, and keep what came of it."""
        route = self._rules.current.alerts.routes.get(message.route)
        body: Mapping[str, Any] = orjson.loads(message.body)
        name, answer = "", None
        if route is not None and message.target < len(route.to):
            target = self._target(route.to[message.target])
            self._fail_point("alerts.before_send")
            name, answer = target.shown, await target.send(body)
            self._fail_point("alerts.after_send")
        kept = await self._kept(Attempt(message, name, answer))
        self._tell_of(message, name, body, answer, kept)

    async def _kept(self, attempt: Attempt) -> Kept:
        """Keep what came of an attempt, however long the store is away: others try again after the lease."""
        while True:
            try:
                return await self._store.submit(self._keep, attempt)
            except Unavailable as error:
                if self._stopping:
                    raise
                await self._clock.sleep(max(1.0, error.retry_after))

    def _target(self, url: str) -> Target:
        found = self._targets.get(url)
        if found is None:
            found = self._targets[url] = self._make(url, self._agent)
        return found

    def _tell_of(
        self, message: AlertMessage, name: str, body: Mapping[str, Any], answer: Answer | None, kept: Kept
    ) -> None:
        """Count and log an attempt."""
        if answer is not None:
            self._instruments.alert_attempt(message.route, "taken" if answer.ok else "not_taken")
        if kept.state in ("sent", "failed", "suppressed"):
            for kind, n in _kinds(body).items():
                self._instruments.alert(message.route, kind, kept.state, n)
        if answer is None or answer.ok:
            if answer is not None and message.attempts > 1:
                _log.info(
                    "alert %s reached %s of route %s at attempt %d",
                    *(message.message, name, message.route, message.attempts),
                    extra={"action": "alert_delivered", "route": message.route},
                )
            return
        after = f"tried again in {kept.next_in:.0f} s" if kept.state == "pending" else "not tried any more"
        _log.log(
            logging.ERROR if kept.state == "failed" else logging.WARNING,
            "alert %s cannot be delivered to %s of route %s: %s; attempt %d, %s",
            *(message.message, name, message.route, answer.error, message.attempts, after),
            extra={"action": "alert_undelivered", "route": message.route},
        )


async def _ended(tasks: Collection["asyncio.Task[None]"]) -> None:
    """Wait a while for tasks, and end those that take longer."""
    if tasks:
        _, late = await asyncio.wait(set(tasks), timeout=_LAST)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _kinds(body: Mapping[str, Any]) -> Mapping[str, int]:
    """Return how many alerts of each kind a message tells of."""
    counts: dict[str, int] = {}
    for group in body.get("groups", [body] if "kind" in body else []):
        counts[group["kind"]] = counts.get(group["kind"], 0) + max(1, group["count"])
    return counts
