"""The composition root: the one place that chooses implementations and puts the parts together.

In flow a checked configuration; out flows a service that is started but not yet listening. Nothing else opens stores,
builds engines or reads the environment.
"""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from config.model import Limits as ServiceLimits
from config.model import ServiceConfig
from pipelines.datasets.catalog import Catalog
from pipelines.dispatcher import Dispatcher
from pipelines.executor import EngineTraits
from pipelines.hands import TASK_SCOPE, DispatchSettings, Doors, Render
from pipelines.kind import EngineSettings
from pipelines.ports import Engine
from pipelines.recording import Recording
from pipelines.references import finder, resolved
from pipelines.registry import load_registry
from sensors.clock import SystemClock
from sensors.uid import new_uid
from tidegate.alerts.sender import AlertSender
from tidegate.api.waiting import RunWaiter
from tidegate.api.webhooks import Webhooks
from tidegate.dataset_looks import looker
from tidegate.deadline_timers import DeadlineTimers
from tidegate.deadlines import KIND as DEADLINE
from tidegate.failpoints import FailPoint
from tidegate.fleet import Fleet, FleetPorts
from tidegate.flow_timers import FlowTimers
from tidegate.flows import KIND as FLOW
from tidegate.freshness import FreshnessTimers, TellAnswers
from tidegate.health_watch import HealthWatch, RequestWatch
from tidegate.held import ReleaseHeld, Releases
from tidegate.ingest import Ingest, StoreInbox
from tidegate.join_timers import OPENS, JoinTimers
from tidegate.joins import KIND as JOIN
from tidegate.leases import Leases
from tidegate.parts import Parts
from tidegate.pauses import PREFIX as PAUSES
from tidegate.pressure import Pressure
from tidegate.probes import Probes
from tidegate.projection import Aftermath
from tidegate.refusals import Refusals
from tidegate.reloading import Reloads
from tidegate.replays.desk import ReplayDesk
from tidegate.replays.step import StepReplay
from tidegate.replays.worker import Holding, Replays
from tidegate.retention import KIND as RETENTION
from tidegate.retention import handler as retention_handler
from tidegate.retrying import LetterDesk
from tidegate.rules import RulesInForce, compile_rules
from tidegate.run_store import StoreRuns
from tidegate.runs import Advance, Cancel, Claim, OwnEvents
from tidegate.service import Service
from tidegate.settings import PAUSED_SENSOR, PAUSED_TRIGGER
from tidegate.settling import SettleKeys
from tidegate.store.factory import open_store
from tidegate.store.store import GroupStore
from tidegate.store.writer import Limits
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import Metrics
from tidegate.telemetry.observers import PipelineObserver
from tidegate.telemetry.propagation import propagator
from tidegate.telemetry.spans import open_tracing
from tidegate.timers import Timers
from tidegate.watched import SensorWatch
from tidegate.watching import FRESHNESS
from triggers.activation import Activation
from triggers.template import compile_function, compile_template, compile_values
from triggers.trigger import Paused

MOST_PATIENCE = 5.0  # seconds that the locks of another replica are waited for; a quarter of a lease, if that is less


async def compose(config: ServiceConfig, version: str, fail_point: FailPoint) -> tuple[Service, Webhooks]:
    """Open the store, put the parts together, start them. What was opened is closed again when something fails.

    Raises StoreError, RuleError, PluginError, TelemetryError: each a sentence with its remedy.
    """
    clock = SystemClock()
    holder = f"{socket.gethostname()}/{os.getpid()}/{new_uid('', clock.now())[-10:]}"
    hint = _Hint()
    store = open_store(
        config.store,
        shard=holder,
        inline=config.limits.inline,
        fail_point=fail_point,
        limits=Limits(config.limits.backlog, config.limits.backlog_bytes),
        on_hint=hint,
        patience=min(MOST_PATIENCE, config.dispatch.lease / 4),
    )
    await store.open()
    try:
        return await _compose(config, version, fail_point, clock, holder, store, hint)
    except BaseException:
        await store.close()
        raise


class _Hint:
    """Passes on that another replica made work, as soon as there is somebody to wake."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.wake is not None:
            self.wake()


async def _compose(
    config: ServiceConfig,
    version: str,
    fail_point: FailPoint,
    clock: SystemClock,
    holder: str,
    store: GroupStore,
    hint: _Hint,
) -> tuple[Service, Webhooks]:
    settings = await store.read(lambda reader: reader.settings(PAUSES))
    paused_triggers = {
        name.removeprefix(PAUSED_TRIGGER): Paused(how)
        for name, how in settings.items()
        if name.startswith(PAUSED_TRIGGER)
    }
    paused_sensors = {
        name.removeprefix(PAUSED_SENSOR): how for name, how in settings.items() if name.startswith(PAUSED_SENSOR)
    }
    rules = RulesInForce(compile_rules(config, paused_triggers))

    metrics = Metrics()
    instruments = Instruments(metrics)
    instruments.process()
    instruments.backlog(lambda: store.backlog)
    tracing = open_tracing(
        config.telemetry,
        config.name,
        version,
        holder,
        metrics=metrics,
        base_url=config.base_url,
    )
    aftermath = Aftermath(tracing, instruments, clock)
    own = OwnEvents(rules, holder, config.name, fail_point, tracing.mint_root)
    ingest = Ingest(rules, holder, fail_point, tracing.mint_root, own)
    inbox = StoreInbox(store, ingest, aftermath, fail_point)

    catalog = Catalog(config.base, config.datasets, config.connections)
    engines = _engines(config, clock, catalog)
    traits = {name: EngineTraits(engine.survives, engine.dedupes) for name, engine in engines.items()}
    runs = StoreRuns(store, Claim(rules, lambda: traits, own), Advance(own), Cancel(own), aftermath)
    dispatch = config.dispatch
    dispatcher = Dispatcher(
        holder,
        runs,
        engines,
        PipelineObserver(tracing, instruments, clock),
        clock,
        DispatchSettings(lease=dispatch.lease, grace=dispatch.grace, runs=dispatch.runs, poll=dispatch.poll),
        Doors(
            propagate=propagator(f"tidegate/{config.name}"),
            compile=_compiler(config),
            fail_point=fail_point,
            pools=lambda: rules.current.pools,
        ),
    )
    aftermath.wake = hint.wake = dispatcher.wake
    aftermath.cancelled = dispatcher.cancel_hint

    refusals = Refusals()
    waiter = RunWaiter(store, clock)
    watch_requests = RequestWatch(tracing, instruments)
    full = _fullness(store, config.limits)
    webhooks = Webhooks(watch_requests, refusals, tracing.mint_root, config.limits, waiter, full)
    watch = HealthWatch(instruments)
    pressure = Pressure(store, clock, config.limits.waiting_runs)
    # On SQLite the store's file belongs to one process.
    leases = Leases(store, holder, clock, dispatch.lease, dispatch.grace) if store.name == "postgresql" else None
    ports = FleetPorts(store, inbox, rules, webhooks, watch, clock, compile_function, compile_values, pressure, leases)
    fleet = Fleet(ports, paused_sensors)
    instruments.lags(fleet.lags)
    # Another process may work at the same replays only where the store is a server.
    holding = Holding(holder, dispatch.lease + dispatch.grace if store.name == "postgresql" else 0.0)
    step = StepReplay(rules, holder, fail_point, tracing.mint_root)
    replays = Replays(store, rules, step, holding, clock, aftermath, pressure.reason)
    desk = ReplayDesk(store, clock, replays.wake)
    alerts = AlertSender(store, rules, instruments, clock, f"tidegate/{version}", fail_point=fail_point)
    aftermath.alert = alerts.wake
    parts = Parts(
        store=store,
        rules=rules,
        inbox=inbox,
        runs=runs,
        dispatcher=dispatcher,
        engines=engines,
        catalog=catalog,
        fleet=fleet,
        timers=Timers(store, {}, clock, on_facts=aftermath),
        sensor_watch=SensorWatch(),
        leases=leases,
        tracing=tracing,
        instruments=instruments,
        aftermath=aftermath,
        refusals=refusals,
        clock=clock,
        releases=Releases(
            store, rules, ReleaseHeld(rules, holder, fail_point, tracing.mint_root, own), aftermath, clock
        ),
        replays=replays,
        reloads=Reloads(store, rules, SettleKeys(rules, holder, own), clock, holder, aftermath),
        replay_desk=desk,
        letters=LetterDesk(
            store,
            ingest,
            desk,
            lambda sensor, uid, letter: fleet.retry(sensor, service.config, uid, letter),
            fleet.poll,
            aftermath,
        ),
        alerts=alerts,
        probes=Probes(store, rules, config.base, lambda: service.config.connections, aftermath),
        watch=watch,
        paused=paused_triggers,
        settings=settings,
        pressure=pressure,
    )
    service = Service(parts, config, version)
    joins = JoinTimers(rules, holder, own, parts.sensor_watch, fail_point, tracing.mint_root)
    parts.timers.handle(JOIN, joins.ring)
    parts.timers.handle(OPENS, joins.open)
    freshness = FreshnessTimers(rules, own, config.name, parts.probes.ask)
    parts.timers.handle(FRESHNESS, freshness.ring)
    parts.timers.handle(DEADLINE, DeadlineTimers(rules, own, config.name).ring)
    parts.probes.start(TellAnswers(rules, own, config.name))
    parts.timers.handle_together(FLOW, FlowTimers(rules, holder, own, fail_point, tracing.mint_root).ring)
    parts.timers.handle(RETENTION, retention_handler(lambda: service.config.retention))
    watch.connect(service.tell_health, service.tell_missed)
    try:
        await service.start()
    except BaseException:
        await service.stop(0)
        raise
    return service, webhooks


def _fullness(store: GroupStore, limits: ServiceLimits) -> Callable[[], bool]:
    def full() -> bool:
        items, size = store.backlog
        return items >= limits.backlog or size >= limits.backlog_bytes

    return full


def _engines(config: ServiceConfig, clock: SystemClock, catalog: Catalog) -> Mapping[str, Engine]:
    """Build every engine that some pipeline names, and the built-in ones: a run may be resumed on any of them."""
    registry = load_registry(config.plugins)
    state = config.state_dir if config.state_dir.is_absolute() else config.base / config.state_dir
    settings = EngineSettings(
        clock=clock,
        service=config.name,
        state=state,
        base=config.base,
        network_allow=config.network_allow,
        workers=config.limits.workers,
        tasks_per_worker=config.limits.tasks_per_worker,
        worker_memory=config.limits.worker_memory,
        task_memory=config.limits.task_memory,
        connections=config.connections,
        catalog=catalog,
    )
    engines = {name: registry[name].build(settings) for name in registry}
    look = looker(engines["python"], config.base)
    return {name: Recording(engine, catalog, look, clock) for name, engine in engines.items()}


def _compiler(config: ServiceConfig) -> Callable[[Mapping[str, Any]], Render]:
    """Return what compiles a task's options, once per definition.

    References (`${env:…}`, `${file:…}`) are resolved here and not at load: runs store their definitions, and a secret
    must not be stored with them.
    """
    find = finder(os.environ, config.base)

    def compile_options(options: Mapping[str, Any]) -> Render:
        template = compile_template(resolved(dict(options), find, template=True), TASK_SCOPE)

        def render(scope: Mapping[str, Any]) -> Mapping[str, Any]:
            rendered: Mapping[str, Any] = template.render(Activation(scope))
            return rendered

        return render

    return compile_options
