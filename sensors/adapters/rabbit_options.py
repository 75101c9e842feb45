"""The options that say which broker, which queue, and what becomes of a message; of `kind: rabbitmq`.

In flow what stands in the configuration, out flow a checked model and one `RabbitPlace`. The URL is a secret, since a
password stands in it; nothing here shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from sensors.adapters.queue_options import QueueOptions
from sensors.kind import SensorContext
from sensors.units import Duration, Size

_LONGEST_NAME: Final = 255  # bytes, of everything that AMQP names
_PORTS: Final[Mapping[str, int]] = {"amqp": 5672, "amqps": 5671}
_HOW = "write one such as amqp://user:password@host:5672/vhost"
# On quorum queues a message that came back so often is thrown away; the default of RabbitMQ 4 is 20.
OFTEN: Final = 1_000_000


class RabbitTls(BaseModel):
    """How the broker is known, and how we are; with an `amqps:` URL. Paths are relative to the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: str | None = Field(None, description="certificates to trust, instead of the system's")
    cert: str | None = Field(None, description="our certificate, where the broker asks for one")
    key: str | None = Field(None, description="its key, where it does not stand in `cert`")
    verify: bool = Field(True, description="`false` trusts whoever answers; for tests only")


class RabbitAccess(BaseModel):
    """Where a broker is and how it is spoken to: as options of a sensor, and as a connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(None, description="amqp:// or amqps://, with user, password, host, port and vhost")
    vhost: str | None = Field(None, min_length=1, description="the virtual host, instead of the one in `url`")
    tls: RabbitTls | None = Field(None, description="how the broker is known; with an amqps:// URL")
    heartbeat: Duration | None = Field(
        None, ge=1, le=600, description="a broker that was silent three times as long is gone; by default 30s"
    )


class RabbitConnection(RabbitAccess):
    """An entry of `connections` of kind `rabbitmq`."""

    kind: Literal["rabbitmq"] = "rabbitmq"


class RabbitDeadLetter(BaseModel):
    """Where poison is published as well, besides our own dead letters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: str = Field(description="the exchange, which must be there; empty is the default one, which names queues")
    routing_key: str | None = Field(None, description="by default the message's own")


class RabbitDedup(BaseModel):
    """What else makes two messages the same event."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: Duration = Field(gt=0, description="messages without an identity and with equal bodies within this time")


class RabbitOptions(QueueOptions, RabbitAccess):
    """Options of `kind: rabbitmq`."""

    kind: Literal["rabbitmq"] = "rabbitmq"
    connection: str | None = Field(None, description="a connection of kind rabbitmq; what stands here goes before it")
    queue: str | None = Field(
        None, min_length=1, description="the queue; with `exchange` it may be left out: tidegate-SERVICE-SENSOR"
    )
    exchange: str | None = Field(None, min_length=1, description="the exchange that the queue is bound to")
    bindings: tuple[str, ...] = Field((), description="the binding keys, such as order.*; `#` is everything of a topic")
    declare: bool | None = Field(
        None, description="make the durable queue and its bindings; by default only with `exchange`"
    )
    queue_type: Literal["quorum", "classic"] | None = Field(
        None, description="of a queue that is made; by default what the virtual host makes"
    )
    arguments: Mapping[str, str | int | bool] = Field(
        default_factory=dict, description="further arguments of a queue that is made, such as x-message-ttl"
    )
    dedup: RabbitDedup | None = Field(
        None, description="body: 10m makes messages without an identity one event if their bodies are equal"
    )
    prefetch: int = Field(256, ge=1, le=5_000, description="messages in hand that are not acknowledged, at most")
    prefetch_size: Size = Field(
        256 << 20, ge=1 << 16, description="lowers `prefetch`: so many messages of `max_message` fit into it"
    )
    ack: Literal["stored", "run_finished"] = Field(
        "stored",
        description="when a message is acknowledged: once its event is durable, or once all runs of it have "
        "ended, well or not",
    )
    dead_letter: RabbitDeadLetter | None = Field(None, description="an exchange that poison is published to as well")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.url is None and self.connection is None:
            raise ValueError("it is not said which broker; write `url` or `connection`")
        if self.queue is None and self.exchange is None:
            raise ValueError("it is not said what to read; write `queue`, or `exchange` with `bindings`")
        if self.bindings and self.exchange is None:
            raise ValueError("`bindings` bind to an exchange; name it with `exchange`")
        if self.exchange is not None and not self.bindings:
            raise ValueError('`exchange` needs `bindings`, such as ["order.*"]; write [""] for one without keys')
        if self.declare is False and self.exchange is not None:
            raise ValueError("`declare: false` makes no binding; leave `exchange` out and name the queue")
        if self.arguments and not self.declares:
            raise ValueError("`arguments` are those of a queue that is made; leave them out, or write `declare: true`")
        for name in (self.queue, self.exchange, *self.bindings):
            if name is not None and (len(name.encode("utf-8", "replace")) > _LONGEST_NAME or "\0" in name):
                raise ValueError(f"{name[:40]!a}… is longer than AMQP allows, or holds a NUL")
        if self.ack == "run_finished" and self.id is None and self.dedup is None:
            raise ValueError(
                "`ack: run_finished` needs an identity that holds when a message comes again; write "
                "`id: headers.message_id` where publishers set it, another `id:` expression, or `dedup: {body: 24h}`"
            )
        return self

    @property
    def declares(self) -> bool:
        """Say whether the queue is made."""
        return self.exchange is not None if self.declare is None else self.declare

    @property
    def window(self) -> int:
        """Return how many messages may be in hand."""
        return max(1, min(self.prefetch, self.prefetch_size // self.max_message))


@dataclass(frozen=True, slots=True)
class RabbitPlace:
    """Which broker and which queue. `url` is what the client takes, with the password; people see `host`."""

    url: str = field(repr=False)
    host: str
    vhost: str
    queue: str
    tls: RabbitTls | None = None

    @property
    def source(self) -> str:
        """Return the source of its events."""
        return f"rabbitmq://{self.host}/{quote(self.vhost, safe='')}/{quote(self.queue, safe='')}"


def place_of(options: RabbitOptions, context: SensorContext) -> RabbitPlace:
    """Return where a sensor's queue is. Raises ValueError with a sentence that shows no password."""
    access = _completed(options, context.connections)
    if access.url is None:
        raise ValueError(f"the connection {options.connection!r} has no `url`; {_HOW}")
    text = access.url.get_secret_value().strip()
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS[parts.scheme]
        sound = bool(parts.hostname) and not parts.fragment and "/" not in parts.path[1:]
    except (ValueError, KeyError):
        raise ValueError(f"`url` is no URL of a broker; {_HOW}") from None
    if not sound:
        raise ValueError(f"`url` is no URL of a broker; {_HOW}")
    if parts.query:
        raise ValueError("`url` has a query; write `heartbeat` and `tls` as options of their own")
    if access.tls is not None and parts.scheme != "amqps":
        raise ValueError("`tls` needs an amqps:// URL; correct `url`")
    vhost = access.vhost or unquote(parts.path[1:]) or "/"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    who = parts.netloc.rpartition("@")[0]
    name = quote(f"tidegate-{context.service}-{context.name}", safe="")
    beat = round(access.heartbeat or 30)
    url = (
        f"{parts.scheme}://{who + '@' if who else ''}{host}:{port}/{quote(vhost, safe='')}?heartbeat={beat}&name={name}"
    )
    tls = access.tls
    if tls is not None:
        base = {key: str(context.base / Path(path)) for key in ("ca", "cert", "key") if (path := getattr(tls, key))}
        tls = tls.model_copy(update=base)
    queue = options.queue or f"tidegate-{context.service}-{context.name}"
    return RabbitPlace(url, f"{host}:{port}", vhost, queue, tls)


def _completed(own: RabbitAccess, connections: Mapping[str, Any]) -> RabbitAccess:
    """Return a sensor's own access, completed by the connection that it names."""
    mine = {name: value for name in RabbitAccess.model_fields if (value := getattr(own, name)) is not None}
    name = getattr(own, "connection", None)
    if name is None:
        return RabbitAccess.model_validate(mine)
    found = connections.get(name)
    if found is None:
        known = ", ".join(sorted(connections)) or "none"
        raise ValueError(f"there is no connection {name!r}; add it to `connections` (there: {known})")
    kind = found.get("kind") if isinstance(found, Mapping) else None
    if kind != "rabbitmq":
        raise ValueError(f"connection {name!r} is of kind {kind!r}; name one of kind rabbitmq")
    try:
        theirs = RabbitConnection.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"connection {name!r}: {where + ': ' if where else ''}{first['msg']}") from None
    shared = {key: value for key in RabbitAccess.model_fields if (value := getattr(theirs, key)) is not None}
    return RabbitAccess.model_validate({**shared, **mine})
