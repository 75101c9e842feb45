"""What a service is made of: the parts that `tidegate.compose` puts together and `tidegate.service` runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.datasets.catalog import Catalog
from pipelines.dispatcher import Dispatcher
from pipelines.ports import Engine
from sensors.clock import Clock
from tidegate.alerts.sender import AlertSender
from tidegate.fleet import Fleet
from tidegate.health_watch import HealthWatch
from tidegate.held import Releases
from tidegate.ingest import StoreInbox
from tidegate.leases import Leases
from tidegate.pressure import Pressure
from tidegate.probes import Probes
from tidegate.projection import Aftermath
from tidegate.refusals import Refusals
from tidegate.reloading import Reloads
from tidegate.replays.desk import ReplayDesk
from tidegate.replays.worker import Replays
from tidegate.retrying import LetterDesk
from tidegate.rules import RulesInForce
from tidegate.run_store import StoreRuns
from tidegate.store.tx import Store
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.tracing import Tracing
from tidegate.timers import Timers
from tidegate.watched import SensorWatch
from triggers.trigger import Paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that a service is made of, as `tidegate.compose` puts it together."""

    store: Store
    rules: RulesInForce
    inbox: StoreInbox
    runs: StoreRuns
    dispatcher: Dispatcher
    engines: Mapping[str, Engine]
    catalog: Catalog
    fleet: Fleet
    timers: Timers
    sensor_watch: SensorWatch
    leases: Leases | None
    tracing: Tracing
    instruments: Instruments
    aftermath: Aftermath
    refusals: Refusals
    clock: Clock
    releases: Releases
    replays: Replays
    reloads: Reloads
    replay_desk: ReplayDesk
    letters: LetterDesk
    alerts: AlertSender
    probes: Probes
    watch: HealthWatch
    paused: Mapping[str, Paused]  # triggers that operators paused
    settings: Mapping[str, str]  # all that operators paused, as it is stored
    pressure: Pressure
