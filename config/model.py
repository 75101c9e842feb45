"""ServiceConfig: what `config.load` makes of YAML and environment.

One frozen object; nothing reads configuration elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.datasets.definition import DatasetDef
from pipelines.pipeline import PipelineDef
from sensors.kind import SensorKind, SensorOptions
from triggers.trigger import Trigger


@dataclass(frozen=True, slots=True)
class SensorEntry:
    """One configured sensor: its kind and its validated options."""

    name: str
    kind: SensorKind
    options: SensorOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long rows are kept, in seconds. Dedup memory and run keys have their own expiry."""

    events: float = 30 * 86_400.0
    runs: float = 90 * 86_400.0
    decisions: float = 7 * 86_400.0
    alerts: float = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Where traces and metrics go. `endpoint` None: nowhere. `sample` is the share of outside traces kept (0..1)."""

    endpoint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sample: float = 1.0
    metrics_every: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the service. Bytes and counts; `backlog` is how many batches may wait for a commit before 429.

    `waiting_runs` is how many runs may be queued before sensors stop reading. `task_memory` 0 bounds no task.
    """

    body: int = 1024 * 1024
    inline: int = 256 * 1024
    header_bytes: int = 32 * 1024
    backlog: int = 10_000
    backlog_bytes: int = 256 * 1024 * 1024
    waiting_runs: int = 100_000
    read_timeout: float = 30.0
    workers: int = 2
    tasks_per_worker: int = 10_000
    worker_memory: int = 1024 * 1024 * 1024
    task_memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """How runs are claimed: seconds of lease, grace before takeover, and how many runs one process holds at once."""

    lease: float = 30.0
    grace: float = 5.0
    runs: int = 256
    poll: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRoute:
    """Whom to tell of what. `to` are URLs with secrets in them and stay out of the repr; times are in seconds.

    `match` holds patterns by label (`tag`, `pipeline`, `sensor`, `trigger`, `dataset`), any of which must fit. At most
    `limit` messages are made within `limit_per`; the other times are those of the options.
    """

    name: str
    to: tuple[str, ...] = field(repr=False)
    events: frozenset[str]
    severity: str = "info"
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group_wait: float = 30.0
    repeat_every: float = 4 * 3_600.0
    limit: int = 20
    limit_per: float = 600.0
    retry_for: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """The whole configuration.

    `hash` names it in decisions, trigger events and runs. `base` is where relative paths start; `store` and `state_dir`
    are absolute already. `store` may hold a password and stays out of the repr. `url` is where people reach console and
    API (None: where it listens).
    """

    name: str
    base: Path
    listen: str
    store: str = field(repr=False)
    hash: str
    admin_listen: str | None = None
    url: str | None = None
    sensors: Mapping[str, SensorEntry] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    pipelines: Mapping[str, PipelineDef] = field(default_factory=dict)
    datasets: Mapping[str, DatasetDef] = field(default_factory=dict)
    connections: Mapping[str, Any] = field(default_factory=dict)
    alerts: Mapping[str, AlertRoute] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()  # what was read, watched for reload
    retention: Retention = field(default_factory=Retention)
    telemetry: Telemetry = field(default_factory=Telemetry)
    limits: Limits = field(default_factory=Limits)
    dispatch: Dispatch = field(default_factory=Dispatch)
    network_allow: tuple[str, ...] = ()
    state_dir: Path = Path(".tidegate")

    @property
    def base_url(self) -> str:
        """Return where people reach console and API, without a slash at the end."""
        return (self.url or f"http://{self.admin_listen or self.listen}").rstrip("/")
