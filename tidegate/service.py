"""The running service: its parts, their order of start and stop, and what API and CLI may ask of it.

Started parts are stopped in the opposite order: first the doors (nothing new is accepted), then the sensors (batches
in hand become durable), then the dispatcher (attempts under way may end), then timers, alerts, engines, telemetry, and
last the store.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal

from config.model import ServiceConfig
from pipelines.run import Run
from sensors.audit import AuditReport
from sensors.batch import Batch
from sensors.event import Event
from sensors.ports import Unavailable
from tidegate.alerts.alert import Alert
from tidegate.alerts.sender import Tried
from tidegate.alerts.sources import config_alert, health_alert, missed_alert
from tidegate.deadline_timers import ArmDeadlines
from tidegate.flow_timers import ArmFlows
from tidegate.freshness import ArmFreshness
from tidegate.join_timers import ArmPatterns
from tidegate.own_events import missed_event, sensor_event
from tidegate.parts import Parts
from tidegate.pauses import Pauses
from tidegate.refusals import Refusals
from tidegate.replays.desk import ReplayDesk
from tidegate.retention import ArmRetention
from tidegate.retrying import LetterDesk
from tidegate.rules import RulesInForce, compile_rules
from tidegate.settings import PAUSED_SENSOR, PAUSED_TRIGGER
from tidegate.start import ResumeAsk, ResumeRun, StartAsk, StartRun, UnknownPipeline, UnknownRun
from tidegate.store.alert_records import Undelivered
from tidegate.store.tx import Store, Write
from tidegate.telemetry.model import shape_of
from tidegate.values import sweep_values
from tidegate.watched import keep_watch
from triggers.trigger import Paused

_log = logging.getLogger("tidegate.service")
PauseMode = Literal["hold", "drop"]
_AT_START = ("name", "listen", "admin_listen", "store", "state_dir", "telemetry", "limits", "dispatch", "plugins")


class Service:
    """One process of Tidegate. Implements `tidegate.api.house.House`."""

    def __init__(self, parts: Parts, config: ServiceConfig, version: str) -> None:
        self._parts = parts
        self._config = config
        self._version = version
        self._draining = False
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []
        self._loops: list[asyncio.Task[None]] = []  # what goes on for ever, until it is cancelled
        self._start_run = StartRun(parts.rules, parts.tracing.mint_root)
        self._resume_run = ResumeRun(parts.rules)
        self._paused = dict(parts.paused)
        self._pauses = Pauses(parts.store, parts.clock, parts.settings, self._apply_pause)

    # -- life -----------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Start all parts over an open store; ready when this returns."""
        parts = self._parts
        await parts.store.submit(ArmRetention(), None)
        former = await parts.reloads.record(self._config)
        for arming in self._armings():
            await parts.store.submit(arming, None)
        await parts.reloads.settle(former, self._config)
        for engine in parts.engines.values():
            await engine.open()
        self._tasks.append(asyncio.create_task(parts.timers.run(), name="timers"))
        self._tasks.append(asyncio.create_task(parts.replays.run(), name="replays"))
        self._loops = [
            asyncio.create_task(self._pauses.follow(), name="pauses"),
            asyncio.create_task(parts.pressure.watch(), name="pressure"),
            asyncio.create_task(sweep_values(parts.store, self._config.state_dir, parts.clock), name="values"),
            asyncio.create_task(
                keep_watch(parts.sensor_watch, self._watched_sensors, parts.fleet.health, parts.clock),
                name="sensor watch",
            ),
        ]
        if parts.leases is not None:
            self._loops.append(asyncio.create_task(parts.leases.run(), name="leases"))
        parts.alerts.start()
        parts.dispatcher.start()
        self._show_shapes()
        await parts.releases.start()
        await parts.fleet.apply(self._config)
        self._started = True

    async def stop(self, patience: float) -> None:
        """Stop softly within about `patience` seconds, then for good."""
        self._draining = True
        parts = self._parts
        parts.replays.stop()
        await _ended("sensors", parts.fleet.stop(min(10.0, patience)))
        await _ended("health", parts.watch.stop())
        await _ended("dispatcher", parts.dispatcher.stop(patience))
        await _ended("timers", self._end_loops())
        await _ended("probes", parts.probes.close())
        await _ended("alerts", parts.alerts.stop())
        for name, engine in parts.engines.items():
            await _ended(f"engine {name}", engine.close())
        await _ended("telemetry", asyncio.to_thread(parts.tracing.close, 5.0))
        await parts.store.close()

    async def _end_loops(self) -> None:
        """End what runs beside the work: timers, replays, sweeping, releases of held events."""
        self._parts.timers.stop()
        for task in self._loops:
            task.cancel()
        await self._parts.releases.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=5.0)
            for task in late:
                task.cancel()

    async def reload(self, config: ServiceConfig) -> None:
        """Put a checked configuration in force: rules for the next transaction, sensors without losing an event.

        Raises triggers.errors.RuleError when the rules do not compile, ValueError when there is nothing in it, and what
        building a sensor raises; the old configuration then stays in force as a whole.
        """
        parts = self._parts
        if self._config.sensors and not (config.sensors or config.triggers or config.pipelines):
            raise ValueError(
                "it is empty now; a file that is being written looks so, and a service without sensors is no use"
            )
        later = [name for name in _AT_START if getattr(config, name) != getattr(self._config, name)]
        if later:
            _log.warning(
                "changes of %s take effect when the service is started again",
                ", ".join(later),
                extra={"action": "reload_later"},
            )
        rules = await asyncio.to_thread(compile_rules, config, self._paused)  # thousands of expressions take seconds
        change = parts.fleet.build(config)
        await parts.reloads.record(config)
        former = self._config.triggers
        parts.catalog.update(config.datasets, config.connections)
        lifted = parts.rules.swap(rules)
        self._config = config
        self._show_shapes()
        parts.releases.release(lifted)
        await self._arm()
        await parts.fleet.change(change)
        await parts.releases.start()  # what triggers hold that were away or disabled for a while
        parts.alerts.wake()
        await parts.reloads.settle(former, config)
        await self._tell_config(None)

    async def refused(self, why: str) -> None:
        """A changed configuration was refused: tell people, by the one in force."""
        await self._parts.reloads.refused(self._config, why)
        await self._tell_config(why)

    async def _tell_config(self, refusal: str | None) -> None:
        parts = self._parts
        try:
            await parts.alerts.tell(config_alert(parts.rules.current.alerts, refusal, parts.clock.now()))
        except Unavailable as error:
            _log.warning("nobody could be alerted of the configuration: %s", error, extra={"action": "alerts_failed"})

    async def _arm(self) -> None:
        """Set calendars and watches going, begin silences; what the store cannot take is armed at the next start."""
        try:
            for arming in self._armings():
                await self._parts.store.submit(arming, None)
        except Unavailable as error:
            _log.error("what goes by the clock could not be armed: %s", error, extra={"action": "arm_failed"})

    def _armings(self) -> "Sequence[Write[None, None]]":
        """Return the writes that set going what goes by the clock, as the rules in force say."""
        rules = self._parts.rules
        return ArmPatterns(rules), ArmFlows(rules), ArmFreshness(rules), ArmDeadlines(rules)

    def _watched_sensors(self) -> frozenset[str]:
        """Return the sensors whose silence some trigger waits for."""
        return self._parts.rules.current.rules.watched

    def _show_shapes(self) -> None:
        shapes = {name: shape_of(entry.kind.name, push=entry.kind.push) for name, entry in self._config.sensors.items()}
        self._parts.tracing.sensors(shapes)
        self._parts.instruments.sensors(shapes)

    # -- what the API reads ------------------------------------------------------------------------------------------
    @property
    def version(self) -> str:
        """The version of Tidegate."""
        return self._version

    @property
    def store(self) -> Store:
        """The durable store, open."""
        return self._parts.store

    @property
    def config(self) -> ServiceConfig:
        """The configuration in force now."""
        return self._config

    @property
    def rules(self) -> RulesInForce:
        """The compiled rules in force now."""
        return self._parts.rules

    @property
    def refusals(self) -> Refusals:
        """What the webhook door refused lately."""
        return self._parts.refusals

    @property
    def replays(self) -> ReplayDesk:
        """Where replays are asked for."""
        return self._parts.replay_desk

    @property
    def letters(self) -> LetterDesk:
        """Where dead letters are tried again."""
        return self._parts.letters

    @property
    def draining(self) -> bool:
        """Say whether a stop has begun."""
        return self._draining

    def sensor_health(self) -> Mapping[str, Mapping[str, Any]]:
        """Return each running sensor's health by name."""
        return self._parts.fleet.health()

    def undelivered(self) -> Sequence[Undelivered]:
        """Return what alerts could not be delivered so far, by route."""
        return self._parts.alerts.undelivered

    def ready(self) -> tuple[bool, str]:
        """Say whether this process can durably accept, and if not, why."""
        if self._draining:
            return False, "the service is draining"
        if not self._started:
            return False, "the service is starting"
        health = self._parts.store.health()
        return health.ok, health.reason

    def metrics_text(self) -> str:
        """Return all metrics in the Prometheus text format."""
        return self._parts.instruments.metrics.render()

    async def test_alert(self, route: str) -> Sequence[Tried]:
        """Send a test message to every target of a route. KeyError for an unknown one."""
        return await self._parts.alerts.test(route)

    # -- what the API asks for ---------------------------------------------------------------------------------------
    async def start_run(self, ask: StartAsk) -> tuple[Run, bool]:
        """Start a run by hand; False: its key was used before. Raises UnknownPipeline."""
        answer = await self._parts.store.submit(self._start_run, ask)
        if isinstance(answer, UnknownPipeline):
            raise answer
        self._parts.dispatcher.wake()
        return answer

    async def resume_run(self, uid: str) -> Run:
        """Open a new generation of a failed or cancelled run. Raises UnknownRun."""
        answer = await self._parts.store.submit(self._resume_run, ResumeAsk(uid))
        if isinstance(answer, UnknownRun):
            raise answer
        self._parts.dispatcher.wake()
        return answer

    async def cancel_run(self, uid: str, reason: str) -> str | None:
        """Ask a run to stop; return its new state, None when there is no such run."""
        state = await self._parts.runs.request_cancel(uid, reason)
        self._parts.dispatcher.cancel_hint(uid, reason)
        return state

    async def pause_sensor(self, name: str, how: PauseMode | None) -> None:
        """Pause a sensor, or let it go on; survives a restart. KeyError for an unknown one."""
        if name not in self._parts.fleet.names():
            raise KeyError(name)
        await self._pauses.say(PAUSED_SENSOR + name, how)

    async def poll_sensor(self, name: str) -> None:
        """Make a sensor look now."""
        self._parts.fleet.poll(name)

    async def audit_sensor(self, name: str, heal: bool) -> AuditReport:
        """Compare what a sensor's source holds with what is remembered."""
        return await self._parts.fleet.audit(name, heal)

    async def peek_sensor(self, name: str, limit: int) -> Batch:
        """Show what a sensor would emit next; nothing moves."""
        return await self._parts.fleet.peek(name, self._config, limit)

    async def source_history(self, name: str, since: int, limit: int) -> Sequence[Event]:
        """Read a source's own history; nothing moves."""
        return await self._parts.fleet.history(name, self._config, since, limit)

    async def pause_trigger(self, name: str, how: PauseMode | None) -> None:
        """Pause a trigger, or let it go on; survives a restart. KeyError for an unknown one.

        One that goes on first works off what it held (`tidegate.held`), and holds what arrives meanwhile.
        """
        if name not in self._config.triggers:
            raise KeyError(name)
        await self._pauses.say(PAUSED_TRIGGER + name, how)

    def _apply_pause(self, setting: str, how: str | None) -> None:
        """Put a pause in force here, or its end, whoever said it. KeyError for a sensor that is not here."""
        if setting.startswith(PAUSED_SENSOR):
            self._parts.fleet.pause(setting.removeprefix(PAUSED_SENSOR), how)
            return
        name = setting.removeprefix(PAUSED_TRIGGER)
        trigger = self._config.triggers.get(name)
        if how is None:
            self._paused.pop(name, None)
            if trigger is not None and trigger.enabled:
                self._parts.releases.release([name])
        else:
            self._paused[name] = Paused(how)
            if trigger is not None:
                self._parts.rules.pause(name, Paused(how))

    # -- own events of sensors ---------------------------------------------------------------------------------------
    async def tell_health(self, sensor: str, healthy: bool, reason: str) -> None:
        """Write `tidegate.sensor.unhealthy|recovered`, when a rule could want it, and the alert beside it."""
        now, rules = self._parts.clock.now(), self._parts.rules.current.alerts
        event = sensor_event(sensor, "recovered" if healthy else "unhealthy", reason, self._config.name, now)
        await self._tell(event, health_alert(rules, sensor, healthy, reason, now))

    async def tell_missed(self, sensor: str, missed: int) -> None:
        """Write `tidegate.schedule.missed`, when a rule could want it, and the alert beside it."""
        now, rules = self._parts.clock.now(), self._parts.rules.current.alerts
        event = missed_event(sensor, missed, self._config.name, now)
        await self._tell(event, missed_alert(rules, sensor, missed, now))

    async def _tell(self, event: Event, alert: Alert) -> None:
        """Store what happened to a sensor.

        While the store is away it is tried again: a sensor that is dead must not look alive afterwards.
        """
        wanted = self._parts.rules.current.rules.wants(event.sensor, event.type, event.subject)
        batch = Batch(events=(event,), dedup_for=604_800.0) if wanted else Batch(counts={"unwatched": 1})
        while True:
            try:
                await self._parts.inbox.tell(event.sensor, batch, alert)
            except Unavailable as error:
                if self._draining:
                    raise
                _log.warning(
                    "what happened to sensor %s cannot be told now, and will be: %s",
                    event.subject,
                    error,
                    extra={"action": "own_event"},
                )
                await self._parts.clock.sleep(max(1.0, error.retry_after))
            else:
                return


async def _ended(part: str, ending: Awaitable[object]) -> None:
    """End one part.

    A part that fails to end is told of, and never keeps the others, above all the store, from ending.
    """
    try:
        await ending
    except Exception as error:  # noqa: BLE001 - told of, and the others must end all the same
        _log.exception("%s did not end well: %s", part, error, extra={"action": "stop_failed"})
