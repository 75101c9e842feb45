"""The sensors of one configuration: built, run, paused, swapped on reload, and asked how they are.

Pull sensors run in the one loop of `sensors.runner`, each as a task of its own: one that is ill does not hurt the
others. Push sensors become endpoints of the public door. On reload a sensor whose kind and options did not change
runs on untouched.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from config.model import SensorEntry, ServiceConfig
from sensors.audit import AuditBusy, AuditReport, NotAuditable
from sensors.batch import Batch
from sensors.clock import Clock
from sensors.event import Event
from sensors.from_start import NothingKnown, started_at
from sensors.health import PauseMode, RunnerObserver, SensorHealth
from sensors.hosts import Hosts, Outgoing
from sensors.kind import SensorContext
from sensors.netguard import NetGuard
from sensors.notice_hub import NoticeHub
from sensors.peeking import NotPeekable, peek
from sensors.ports import Inbox
from sensors.push import PushGate
from sensors.runner import NoPressure, Pressure, RunnerPorts, SensorRunner
from sensors.sensor import PushSensor, Sensor
from tidegate.api.endpoints import Endpoint
from tidegate.api.throttle import Throttle
from tidegate.api.webhooks import Webhooks
from tidegate.endpoints import make_endpoint, make_throttle
from tidegate.event_view import rfc3339
from tidegate.fetching import Fetcher
from tidegate.leases import WAITING, LeasedInbox, Leases
from tidegate.lookup import RulesPrefilter, StoreLookup
from tidegate.rules import RulesInForce
from tidegate.store.tx import Store

_log = logging.getLogger("tidegate.sensors")
Compile = Callable[[Any, tuple[str, ...]], Callable[[Mapping[str, Any]], Any]]


def make_fetcher(config: ServiceConfig) -> Fetcher:
    """Return what fetches keys and certificates for the sensors of a configuration."""
    return Fetcher(config.network_allow, f"tidegate/{config.name}")


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """What the fleet lends to its sensors."""

    store: Store
    inbox: Inbox
    rules: RulesInForce
    webhooks: Webhooks
    observer: RunnerObserver
    clock: Clock
    compile: Compile
    template: Compile
    pressure: Pressure = field(default_factory=NoPressure)
    leases: Leases | None = None  # None: there are no other replicas
    make_fetcher: Callable[[ServiceConfig], Fetcher] = make_fetcher


# What all sensors get of a configuration: name, base, connections, networks.
Common = tuple[str, Path, Mapping[str, Any], tuple[str, ...]]


@dataclass(slots=True)
class _Running:
    entry: SensorEntry
    common: Common
    runner: SensorRunner
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True, eq=False)
class _Door:
    entry: SensorEntry
    common: Common
    gate: PushGate
    receiver: PushSensor
    throttle: Throttle | None


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration's sensors, built and ready to take the place of what runs."""

    entries: Mapping[str, SensorEntry]
    common: Common
    pull: Mapping[str, Sensor]  # only the new ones
    push: Mapping[str, _Door]
    endpoints: Mapping[str, Endpoint]


class Fleet:
    """All sensors of this process."""

    def __init__(self, ports: FleetPorts, paused: Mapping[str, str]) -> None:
        self._ports = ports
        self._paused = dict(paused)  # by operators; kept in the store by whoever calls `pause`
        self._running: dict[str, _Running] = {}
        self._doors: dict[str, _Door] = {}
        self._auditing: set[str] = set()
        self._hosts = Hosts(ports.clock)
        self._notices = NoticeHub()
        self._fetchers: dict[tuple[str, ...], Fetcher] = {}  # by the networks that they may reach
        self._peeking: set[str] = set()

    async def apply(self, config: ServiceConfig) -> None:
        """Make the running sensors those of this configuration."""
        await self.change(self.build(config))

    def build(self, config: ServiceConfig) -> "Change":
        """Build what is new in a configuration, without touching what runs. Raises what a constructor raises."""
        entries = {name: entry for name, entry in config.sensors.items() if entry.options.enabled}
        common = (config.name, config.base, config.connections, config.network_allow)
        pull: dict[str, Sensor] = {}
        push: dict[str, _Door] = {}
        for name, entry in entries.items():
            if entry.kind.push:
                door = self._doors.get(name)
                if door is None or door.entry != entry or door.common != common:
                    receiver = cast("PushSensor", self._build(name, entry, config))
                    throttle = make_throttle(entry.options, self._ports.clock)
                    door = _Door(entry, common, self._gate(name, receiver), receiver, throttle)
                push[name] = door
                continue
            kept = self._running.get(name)
            if kept is None or kept.entry != entry or kept.common != common or kept.task.done():
                pull[name] = cast("Sensor", self._build(name, entry, config))
        endpoints = [
            make_endpoint(name, door.entry.options, door.gate, door.receiver, door.throttle, config.limits)
            for name, door in push.items()
        ]
        return Change(entries, common, pull, push, {endpoint.path: endpoint for endpoint in endpoints})

    async def change(self, change: "Change") -> None:
        """Swap: the door in one step, then each sensor that is new or gone. What did not change runs on untouched."""
        for name, door in change.push.items():
            if door is not self._doors.get(name):
                self._open(name, door)
        self._doors = dict(change.push)
        self._ports.webhooks.endpoints = change.endpoints
        pulled = {name for name, entry in change.entries.items() if not entry.kind.push}
        leaving = [name for name in self._running if name in change.pull or name not in pulled]
        await asyncio.gather(*(self._leave(name) for name in leaving))
        for name, sensor in change.pull.items():
            self._start(name, change.entries[name], change.common, sensor)

    def _build(self, name: str, entry: SensorEntry, config: ServiceConfig) -> Sensor | PushSensor:
        context = SensorContext(
            name=name,
            service=config.name,
            clock=self._ports.clock,
            base=Path(config.base),
            connections=config.connections,
            compile=self._ports.compile,
            template=self._ports.template,
            outgoing=Outgoing(NetGuard(config.network_allow), self._hosts),
            fetch=self._fetcher(config).fetch,
            notices=self._notices,
        )
        return entry.kind.build(entry.options, context)

    def _fetcher(self, config: ServiceConfig) -> Fetcher:
        if config.network_allow not in self._fetchers:
            self._fetchers[config.network_allow] = self._ports.make_fetcher(config)
        return self._fetchers[config.network_allow]

    def _gate(self, name: str, receiver: PushSensor) -> PushGate:
        ports = self._ports
        return PushGate(name, receiver, ports.inbox, ports.clock, ports.observer, self._notices)

    def _open(self, name: str, door: "_Door") -> None:
        door.gate.open()
        pause = self._paused.get(name) or door.entry.options.paused
        if pause is not None:
            door.gate.pause(cast("PauseMode", pause))

    def _start(self, name: str, entry: SensorEntry, common: Common, sensor: Sensor) -> None:
        leases = self._ports.leases if entry.kind.single else None
        ports = RunnerPorts(
            inbox=self._ports.inbox if leases is None else LeasedInbox(self._ports.inbox, leases, name),
            lookup=StoreLookup(self._ports.store, name),
            prefilter=RulesPrefilter(self._ports.rules, name),
            observer=self._ports.observer,
            pressure=self._ports.pressure,
        )
        runner = SensorRunner(name, sensor, ports, self._ports.clock)
        pause = self._paused.get(name) or entry.options.paused
        if pause is not None:
            runner.pause(cast("PauseMode", pause))
        task = asyncio.create_task(runner.run(), name=f"sensor {name}")
        task.add_done_callback(_tell_of_death)
        self._running[name] = _Running(entry, common, runner, task)
        self._compete(name, self._running[name], take=pause != "hold")

    def _compete(self, name: str, running: _Running, *, take: bool) -> None:
        """Strive for the lease of a sensor that only one replica reads, or leave it to others."""
        leases = self._ports.leases
        if leases is None or not running.entry.kind.single:
            return
        if not take:
            leases.drop(name)
        elif not leases.wants(name):
            running.runner.stand_by(WAITING)
            leases.want(name, running.runner.stand_by)

    async def _leave(self, name: str, within: float = 10.0) -> None:
        """Stop one sensor softly, then for good."""
        running = self._running.pop(name)
        running.runner.stop()
        _, late = await asyncio.wait({running.task}, timeout=within)
        for task in late:
            task.cancel()
            await asyncio.wait({task}, timeout=2.0)
        self._compete(name, running, take=False)
        if self._ports.leases is not None:
            await self._ports.leases.give_back()

    async def stop(self, within: float) -> None:
        """Stop all: batches in hand become durable, then the sources are let go."""
        for door in self._doors.values():
            door.gate.stop()
        await asyncio.gather(*(self._leave(name, within) for name in list(self._running)))
        await asyncio.gather(*(fetcher.close() for fetcher in self._fetchers.values()))

    # -- what operators ask -----------------------------------------------------------------------------------------
    def names(self) -> frozenset[str]:
        """Return the names of all sensors."""
        return frozenset(self._running) | frozenset(self._doors)

    def pause(self, name: str, how: str | None) -> None:
        """Pause (`hold`, `drop`) or resume (None) a sensor. KeyError when there is none of that name."""
        if name not in self.names():
            raise KeyError(name)
        if how is None:
            self._paused.pop(name, None)
        else:
            self._paused[name] = how
        target = self._doors[name].gate if name in self._doors else self._running[name].runner
        if name in self._running:
            self._compete(name, self._running[name], take=how != "hold")
        if how is None:
            target.resume()
        else:
            target.pause(cast("PauseMode", how))

    def poll(self, name: str) -> None:
        """Ask a pull sensor to look now; a push sensor has nothing to look at. KeyError for an unknown name."""
        if name in self._running:
            self._running[name].runner.poll()
        elif name not in self._doors:
            raise KeyError(name)

    async def audit(self, name: str, heal: bool) -> AuditReport:
        """Compare what a sensor's source holds with what is remembered. KeyError for an unknown name.

        Raises NotAuditable for a sensor that remembers no objects, AuditBusy while an audit of it is under way, and
        what the sensor raises when its source cannot be asked.
        """
        if name in self._doors:
            raise NotAuditable(f"sensor {name} is sent its events, so there is nothing to compare")
        runner = self._running[name].runner
        if name in self._auditing:
            raise AuditBusy(f"an audit of sensor {name} is under way; wait until it has ended")
        self._auditing.add(name)
        try:
            return await runner.audit(heal)
        finally:
            self._auditing.discard(name)

    def lags(self) -> Mapping[str, SensorHealth]:
        """Return the health of every pull sensor, for those who measure how far behind they are."""
        return {name: running.runner.health for name, running in self._running.items()}

    async def peek(self, name: str, config: ServiceConfig, limit: int) -> Batch:
        """Show what a sensor would emit next, by an instance of its own that is let go afterwards; nothing moves.

        KeyError for an unknown name. Raises NotPeekable for a sensor that is sent its events, or is being peeked at,
        and what the sensor raises when its source cannot be asked.
        """
        entry = config.sensors[name]
        if entry.kind.push:
            raise NotPeekable(f"sensor {name} is sent its events; send one, then `tidegate events --sensor {name}`")
        if name in self._peeking:
            raise NotPeekable(f"somebody peeks at sensor {name} just now; try again in a moment")
        self._peeking.add(name)
        try:
            ports = self._ports
            sensor = cast("Sensor", self._build(name, entry, config))
            cursors = await ports.inbox.cursors(name)
            return await peek(sensor, cursors, StoreLookup(ports.store, name), limit, ports.clock)
        finally:
            self._peeking.discard(name)

    async def history(self, name: str, config: ServiceConfig, since: int, limit: int) -> Sequence[Event]:
        """Return events of a source since a moment, by an instance that knows of no positions; nothing moves.

        KeyError and what is raised as in `peek`.
        """
        entry = config.sensors[name]
        if entry.kind.push:
            raise NotPeekable(f"sensor {name} is sent its events, so its source has no history that could be read")
        if name in self._peeking:
            raise NotPeekable(f"somebody peeks at sensor {name} just now; try again in a moment")
        self._peeking.add(name)
        try:
            early = replace(entry, options=started_at(entry.options, since))
            batch = await peek(
                cast("Sensor", self._build(name, early, config)), {}, NothingKnown(), limit, self._ports.clock
            )
        finally:
            self._peeking.discard(name)
        return [event for event in batch.events if event.time is None or event.time >= since]

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """Return every sensor's health as plain data."""
        found = {
            name: _health(running.entry.kind.name, running.runner.health) for name, running in self._running.items()
        }
        found.update({name: _health(door.entry.kind.name, door.gate.health) for name, door in self._doors.items()})
        return dict(sorted(found.items()))


def _health(kind: str, health: SensorHealth) -> Mapping[str, Any]:
    return {
        "kind": kind,
        "state": health.state,
        "reason": health.reason,
        "since": rfc3339(health.since),
        "last_success": rfc3339(health.last_success),
        "events": health.events,
        "errors": health.errors,
        "lag": health.lag,
        "shards": [
            {
                "shard": shard,
                "records": lag.records,
                "seconds": lag.seconds,
                "last_success": rfc3339(lag.last_success),
            }
            for shard, lag in sorted(health.shards.items())
        ],
        "paused": health.pause,
    }


def _tell_of_death(task: "asyncio.Task[None]") -> None:
    """A runner never ends by an error of the source; if it does, that is our bug and must be loud."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended unexpectedly: %s", task.get_name(), error, exc_info=error, extra={"action": "sensor_died"})
