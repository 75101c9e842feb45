"""The house as the API sees it: what it reads, and the few things it asks for; `tidegate.service` does them.

Everything that is read comes from one snapshot of the store's reader; what is changed is a durable write that has
happened when the call returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from config.model import ServiceConfig
from pipelines.run import Run
from sensors.audit import AuditReport
from sensors.batch import Batch
from sensors.event import Event
from tidegate.alerts.sender import Tried
from tidegate.refusals import Refusals
from tidegate.replays.desk import ReplayDesk
from tidegate.rules import RulesInForce
from tidegate.start import StartAsk
from tidegate.store.alert_records import Undelivered
from tidegate.store.tx import Store

PauseMode = Literal["hold", "drop"]


class House(Protocol):
    """The running service. Methods raise `sensors.ports.Unavailable` when the store cannot answer now."""

    @property
    def version(self) -> str:
        """The version of Tidegate."""
        ...

    @property
    def store(self) -> Store:
        """The durable store, open."""
        ...

    @property
    def config(self) -> ServiceConfig:
        """The configuration in force now; replaced as one value on reload."""
        ...

    @property
    def rules(self) -> RulesInForce:
        """The compiled rules in force now."""
        ...

    @property
    def refusals(self) -> Refusals:
        """What the webhook door refused lately."""
        ...

    @property
    def replays(self) -> ReplayDesk:
        """Where replays are asked for."""
        ...

    async def start_run(self, ask: StartAsk) -> tuple[Run, bool]:
        """Start a run of a configured pipeline with checked parameters; False: its key was used before.

        Raises `tidegate.start.UnknownPipeline` when a reload has just removed it.
        """
        ...

    async def resume_run(self, uid: str) -> Run:
        """Open a new generation of a failed or cancelled run. Raises `tidegate.start.UnknownRun` with a sentence."""
        ...

    async def cancel_run(self, uid: str, reason: str) -> str | None:
        """Ask a run to stop; return its new state, None when there is no such run."""
        ...

    async def pause_sensor(self, name: str, how: PauseMode | None) -> None:
        """Pause a sensor, or let it go on (None); survives a restart. KeyError for one that does not run."""
        ...

    async def poll_sensor(self, name: str) -> None:
        """Make a pull sensor look now. KeyError for one that does not run."""
        ...

    async def audit_sensor(self, name: str, heal: bool) -> AuditReport:
        """Compare what a sensor's source holds with what is remembered. KeyError for one that does not run.

        Raises NotAuditable and AuditBusy with a sentence, SensorError when the source cannot be asked now.
        """
        ...

    async def peek_sensor(self, name: str, limit: int) -> Batch:
        """Return up to `limit` events and dead letters that a sensor would bring next; moves nothing. KeyError.

        Raises NotPeekable with a sentence, SensorError when the source cannot be asked now.
        """
        ...

    async def source_history(self, name: str, since: int, limit: int) -> Sequence[Event]:
        """Return up to `limit` events of a source since a moment, by a reader of its own; moves nothing. KeyError.

        Raises NotPeekable with a sentence, SensorError when the source cannot be asked now.
        """
        ...

    async def pause_trigger(self, name: str, how: PauseMode | None) -> None:
        """Pause a trigger, or let it go on (None); survives a restart. KeyError for an unknown one."""
        ...

    async def test_alert(self, route: str) -> Sequence[Tried]:
        """Send a test message to every target of a route. KeyError for an unknown one."""
        ...

    def undelivered(self) -> Sequence[Undelivered]:
        """Return what alerts could not be delivered so far, by route."""
        ...

    def sensor_health(self) -> Mapping[str, Mapping[str, Any]]:
        """Return each running sensor's health by name, with the fields of `sensors.health.SensorHealth`."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Say whether this process can durably accept, and if not, why (one sentence)."""
        ...

    def metrics_text(self) -> str:
        """Return all metrics in the Prometheus text format."""
        ...
