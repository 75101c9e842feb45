"""The sections about the service itself: `service`, `telemetry`, `connections`, `defaults`.

Option models for YAML, and what becomes of them in the frozen ServiceConfig. Moments and durations are seconds, sizes
bytes. What a later version will act on is refused here, so that nothing is silently without effect.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from config.model import Dispatch, Limits, Retention, Telemetry
from config.problems import Path
from config.reading import Reading
from config.yaml import Items, Node, Scalar, Table
from pipelines.references import has_reference
from sensors.units import Duration, Size

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
SECRET_KEY: Final = re.compile(
    r"(?i)(^|[_-])(authorization|password|passphrase|passwd|secret|token|private[_-]?key|api[_-]?key|(?:access|account)[_-]?key"
    r"|sas|connection[_-]?string)s?$",
)
_RETENTION: Final = Retention()
_LIMITS: Final = Limits()
_DISPATCH: Final = Dispatch()
_LISTEN: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+|\*?):(\d{1,5})")
_CLEAR_PASSWORD: Final = re.compile(r"^[a-z0-9+]+://[^/@:]*:([^@/]+)@")
_REFERENCE: Final = re.compile(r"\$\{(?:env|file):[^{}]*\}")


def listen_address(value: str) -> str:
    """Accept `host:port`."""
    found = _LISTEN.fullmatch(value)
    if found is None or int(found[2]) > 65_535:
        raise ValueError(f"`{value}` is no address to listen on; write `host:port` such as 127.0.0.1:8080")
    return value


def store_url(value: str) -> str:
    """Accept the URLs of the two stores there are."""
    if value.startswith(("postgresql://", "postgres://")):
        return value
    if not value.startswith("sqlite:///"):
        scheme = value.partition(":")[0][:30]
        raise ValueError(f"`{scheme}:` is no store; write sqlite:///path/to/file.db or postgresql://user@host/database")
    if len(value) == len("sqlite:///") or "?" in value or ":memory:" in value:
        raise ValueError("a SQLite store is a file; write sqlite:///path/to/file.db")
    return value


def network(value: str) -> str:
    """Accept an address range, `10.0.0.0/8`."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(f"`{value}` is no address range; write one such as 10.0.0.0/8") from error


class Options(BaseModel):
    """A section: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetentionOptions(Options):
    """How long rows are kept."""

    events: Duration = _RETENTION.events
    runs: Duration = _RETENTION.runs
    decisions: Duration = _RETENTION.decisions
    alerts: Duration = _RETENTION.alerts


class LimitsOptions(Options):
    """Bounds of the service."""

    body: Annotated[Size, Field(ge=1, le=64 * 1024 * 1024)] = _LIMITS.body
    inline: Annotated[Size, Field(ge=0, le=16 * 1024 * 1024)] = _LIMITS.inline
    header_bytes: Annotated[Size, Field(ge=1024, le=1024 * 1024)] = _LIMITS.header_bytes
    backlog: int = Field(default=_LIMITS.backlog, ge=1)
    backlog_bytes: Annotated[Size, Field(ge=1024)] = _LIMITS.backlog_bytes
    waiting_runs: int = Field(default=_LIMITS.waiting_runs, ge=1)
    read_timeout: Annotated[Duration, Field(gt=0)] = _LIMITS.read_timeout
    workers: int = Field(default=_LIMITS.workers, ge=1, le=256)
    tasks_per_worker: int = Field(default=_LIMITS.tasks_per_worker, ge=1)
    worker_memory: Annotated[Size, Field(ge=16 * 1024 * 1024)] = _LIMITS.worker_memory
    task_memory: Annotated[Size, Field(ge=0)] = _LIMITS.task_memory


class DispatchOptions(Options):
    """How runs are claimed."""

    lease: Annotated[Duration, Field(ge=1)] = _DISPATCH.lease
    grace: Annotated[Duration, Field(ge=0)] = _DISPATCH.grace
    runs: int = Field(default=_DISPATCH.runs, ge=1, le=100_000)
    poll: Annotated[Duration, Field(ge=0.01)] = _DISPATCH.poll


class NetworkOptions(Options):
    """Which private address ranges outgoing calls may reach."""

    allow: tuple[Annotated[str, AfterValidator(network)], ...] = ()


class ServiceOptions(Options):
    """The section `service`. `base` is where relative paths start, itself relative to the folder of the first file."""

    name: str = Field(default="tidegate", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:8080"
    admin_listen: Annotated[str, AfterValidator(listen_address)] | None = None
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#]+[^\s?#]*$",
        description="where people reach console and API, for links in alerts; by default the address listened on",
    )
    store: Annotated[str, AfterValidator(store_url)] | None = None
    plugins: tuple[str, ...] = ()
    base: str = "."
    state_dir: str = ".tidegate"
    retention: RetentionOptions = RetentionOptions()
    limits: LimitsOptions = LimitsOptions()
    dispatch: DispatchOptions = DispatchOptions()
    network: NetworkOptions = NetworkOptions()


class OtlpOptions(Options):
    """Where traces and metrics go, over OTLP/HTTP."""

    endpoint: str = Field(pattern=r"^https?://[^\s/]+\S*$", description="a URL such as http://127.0.0.1:4318")
    headers: Mapping[str, str] = Field(default_factory=dict)


class TelemetryOptions(Options):
    """The section `telemetry`."""

    otlp: OtlpOptions | None = None
    sample: float = Field(default=1.0, ge=0.0, le=1.0)
    metrics_every: Annotated[Duration, Field(ge=1)] = 60.0


class ConnectionOptions(BaseModel):
    """One entry of `connections`: its `kind`, and what that kind needs."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(pattern=NAME, description="the kind of system, such as azure")


def read_service(reading: Reading) -> ServiceOptions:
    """Read the section `service`; of one with problems, only where paths start and the plug-ins, for further checks."""
    store = reading.node(("service", "store"))
    if isinstance(store, Scalar) and isinstance(store.value, str):
        clear = _CLEAR_PASSWORD.match(_REFERENCE.sub("@", store.value))
        if clear is not None:
            reading.problem(
                ("service", "store"),
                "the password is written out",
                "name where it comes from: postgresql://user:${env:PGPASSWORD}@host/database",
            )
    options = reading.validate(ServiceOptions, ("service",))
    if options is not None:
        return options
    base, plugins = reading.node(("service", "base")), reading.node(("service", "plugins"))
    listed = plugins.items if isinstance(plugins, Items) else ()
    return ServiceOptions(
        base=base.value if isinstance(base, Scalar) and isinstance(base.value, str) else ".",
        plugins=tuple(item.value for item in listed if isinstance(item, Scalar) and isinstance(item.value, str)),
    )


def read_telemetry(reading: Reading) -> Telemetry:
    """Read the section `telemetry`."""
    headers = ("telemetry", "otlp", "headers")
    refuse_secrets(reading, reading.node(headers), headers)
    options = reading.validate(TelemetryOptions, ("telemetry",)) or TelemetryOptions()
    otlp = options.otlp
    return Telemetry(
        endpoint=otlp.endpoint if otlp is not None else None,
        headers=dict(otlp.headers) if otlp is not None else {},
        sample=options.sample,
        metrics_every=options.metrics_every,
    )


def read_connections(reading: Reading) -> dict[str, Any]:
    """Read the section `connections`: name -> plain data; whole `env:NAME` and `file:/path` secrets are filled in."""
    connections: dict[str, Any] = {}
    for name, node in reading.table(("connections",)).items():
        path = ("connections", name)
        refuse_secrets(reading, node, path, whole=True)
        options = reading.validate(ConnectionOptions, path)
        if options is not None and isinstance(node, Table):
            data = options.model_dump()
            _fill_secrets(reading, node, path, data)
            connections[name] = data
    return connections


def not_available(key: str) -> tuple[str, str]:
    """Return message and remedy for a key that a later version will know."""
    return f"`{key}` is not available in this version", "take it out: it would have no effect"


def absolute_store(store: str | None, base: FilePath, state: FilePath) -> str:
    """Return the URL of the store with an absolute path; without one, the file `tidegate.db` in the state folder."""
    if store is None:
        return f"sqlite:///{state / 'tidegate.db'}"
    if store.startswith("sqlite:///"):
        return f"sqlite:///{(base / store.removeprefix('sqlite:///')).resolve()}"
    return store


def _fill_secrets(reading: Reading, node: Table, path: Path, data: dict[str, Any]) -> None:
    """Replace whole references under keys that name secrets, at any depth of maps."""
    for key, entry in node.entries.items():
        if isinstance(entry.node, Table) and isinstance(data.get(key), dict):
            _fill_secrets(reading, entry.node, (*path, key), data[key])
        elif isinstance(entry.node, Scalar) and SECRET_KEY.search(key):
            filled = reading.secret(entry.node, (*path, key)) if entry.node.text.startswith(("env:", "file:")) else None
            if filled is not None:
                data[key] = filled


def refuse_secrets(reading: Reading, node: Node | None, path: Path, *, whole: bool = False) -> None:
    """Report texts that are written out under keys that name secrets, at any depth.

    `whole` says that `env:NAME` alone is filled in here too; elsewhere it would stand for itself.
    """
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            refuse_secrets(reading, item, (*path, index), whole=whole)
    if not isinstance(node, Table):
        return
    for key, entry in node.entries.items():
        leaf, where = entry.node, (*path, key)
        if not isinstance(leaf, Scalar):
            refuse_secrets(reading, leaf, where, whole=whole)
        elif isinstance(leaf.value, str) and SECRET_KEY.search(key):
            if has_reference(leaf.text) or "${{" in leaf.text:
                continue
            reference = leaf.text.startswith(("env:", "file:"))
            if not reference and not whole:
                reading.problem(
                    where, "a secret is written out", "name where it comes from: `${env:NAME}` (and change it)"
                )
            elif not reference:
                reading.secret(leaf, where)
            elif not whole:
                reading.problem(
                    where, f"`{leaf.text[:60]}` would stand for itself here", f"write `${{{leaf.text[:60]}}}`"
                )
