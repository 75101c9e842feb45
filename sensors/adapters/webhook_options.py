"""The options of `kind: webhook`."""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from sensors.adapters.grid_door import ORIGIN
from sensors.content import DEFAULT_TYPES, MediaRange
from sensors.kind import SensorOptions
from sensors.units import Duration, Size
from sensors.verify import Verify

REMEMBER: Final = 7 * 86_400.0  # seconds; longer than any sender retries
SECRET: Final = "secret"  # noqa: S105 - the name of the part of the path that is one
_PARAMETER: Final = re.compile(r"\{([a-z_][a-z0-9_]{0,63})\}")
_RATE: Final = re.compile(r"([1-9]\d{0,8})/(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}

Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]


def _is_rate(value: str) -> str:
    if not _RATE.fullmatch(value):
        raise ValueError("must be a rate such as 100/s, 600/m or 5000/h")
    return value


Rate = Annotated[str, AfterValidator(_is_rate)]


def per_second(rate: str) -> float:
    """Return a rate's events per second."""
    found = _RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f"{rate!r} is no rate")
    return int(found[1]) / _SECONDS[found[2]]


class _Part(BaseModel):
    """A part of the options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DedupOptions(_Part):
    """What makes two deliveries the same event, and for how long."""

    body: Duration | None = Field(
        None, gt=0, description="deliveries with an equal body within this time are one event, where no id is sent"
    )
    ids: Duration = Field(REMEMBER, ge=REMEMBER, description="how long ids are remembered; never less than seven days")


class CloudEventsOptions(_Part):
    """CloudEvents beyond single ones, and the handshake that protects others from being flooded through a sender."""

    batch: bool = Field(False, description="take batches (application/cloudevents-batch+json): all of one or none")
    origins: tuple[str, ...] = Field(
        (),
        description="senders that may register this endpoint by OPTIONS, such as eventemitter.example.com; * for all",
    )
    rate: int | None = Field(None, gt=0, description="requests per minute that they are granted; by default any")


class LimitOptions(_Part):
    """How much one endpoint takes in, in this process. Beyond it senders get 429 with Retry-After."""

    rate: Rate | None = Field(None, description="requests on average, such as 100/s; forged ones do not count")
    burst: int | None = Field(None, ge=1, description="how many may come at once; by default those of one second")
    requests: int | None = Field(None, ge=1, description="accepted requests in each window of `per`")
    bytes: Size | None = Field(None, gt=0, description="bytes of accepted bodies in each window of `per`")
    per: Duration = Field(86_400.0, ge=1, description="the window of `requests` and `bytes`")


class AnswerOptions(_Part):
    """What the sender is answered when its delivery is durable, where it wants something certain."""

    status: Literal[200, 201, 202, 204] = 200
    content_type: str = Field("text/plain", pattern=r"^[\x21-\x7e][\x20-\x7e]{0,254}$")
    body: str = Field("", description="the body as it is")
    value: str | None = Field(None, description="CEL over body, headers, query and match: text, or what becomes JSON")

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body and self.value is not None:
            raise ValueError("`body` and `value` exclude each other")
        if self.status == 204 and (self.body or self.value is not None):
            raise ValueError("204 has no body; write 200, or leave the body out")
        return self


class CorsOptions(_Part):
    """Browsers that may post from other sites."""

    origins: tuple[str, ...] = Field(min_length=1, description="such as https://app.example.com; * for all")
    headers: tuple[str, ...] = Field(("content-type",), description="headers that they may set")
    max_age: Duration = Field(600.0, ge=0, description="how long a browser may keep the answer")

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if text != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", text):
                raise ValueError(f"{text!r} is no origin; write scheme and host, such as https://app.example.com")
        return value


class WebhookOptions(SensorOptions):
    """Options of `kind: webhook`."""

    kind: Literal["webhook"] = "webhook"
    path: str = Field(description="where senders post, such as /hooks/github; /hooks/{tenant} captures a part")
    path_secret: SecretStr | tuple[SecretStr, ...] | None = Field(
        None, description="what must stand in the path where it says {secret}"
    )
    methods: tuple[Method, ...] = ("POST",)
    verify: Verify = Field(description="who may post; `none` must be written out")
    format: Literal["auto", "event-grid"] = Field(
        "auto",
        description="auto: CloudEvents, or the body as it is; event-grid: Azure's schema as well, and its handshake",
    )
    cloudevents: CloudEventsOptions = Field(
        CloudEventsOptions(), description="batch: take batches; origins, rate: who may register by OPTIONS"
    )
    id: str | None = Field(
        None, description="CEL over body, headers, query and match: the event's id, where the sender sends none"
    )
    type: str | None = Field(None, description="CEL over body, headers, query and match: the event's type")
    subject: str | None = Field(None, description="CEL over body, headers, query and match: the event's subject")
    dedup: DedupOptions = Field(
        DedupOptions(),
        description="body: 10m makes equal bodies within 10 minutes one event; ids: how long they are kept",
    )
    limit: LimitOptions | None = Field(
        None, description="rate, burst: how many; requests, bytes, per: a quota; beyond it 429"
    )
    wait: Duration | None = Field(
        None, ge=0, le=300, description="the longest ?wait= for the result of the runs; by default 60s, unverified 0s"
    )
    answer: AnswerOptions | None = Field(
        None, description="status, content_type, body or value: what is answered instead of the standard answer"
    )
    cors: CorsOptions | None = Field(
        None, description="origins, headers, max_age: browsers of which other sites may post; by default none"
    )
    max_body: Size | None = Field(None, gt=0, description="a larger body is refused with 413; by default the service's")
    encodings: tuple[Literal["gzip", "deflate", "zstd"], ...] = Field(
        (), description="content codings that are undone; others are refused with 415"
    )
    max_decoded: Size | None = Field(
        None, gt=0, description="what a compressed body may become; by default four times the largest body"
    )
    content_types: tuple[MediaRange, ...] = Field(DEFAULT_TYPES, description="others are refused with 415")
    keep_headers: tuple[str, ...] | None = Field(
        None, description="headers that become attributes, x-my-* included; by default all but secrets"
    )
    keep_refused: Size = Field(
        0, le=64 * 1024, description="how much of the bodies of refused requests operators may see; by default nothing"
    )

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        plain = _PARAMETER.sub("x", value)
        if not value.startswith("/") or value == "/" or any(c in plain for c in "?#{} ") or not value.isprintable():
            raise ValueError("must start with / and be a plain path, such as /hooks/github or /hooks/{tenant}")
        segments = value.split("/")
        names = [found[1] for segment in segments if (found := _PARAMETER.fullmatch(segment))]
        if len(names) != len(_PARAMETER.findall(value)):
            raise ValueError("a {name} must be a whole part of the path, as in /hooks/{tenant}/orders")
        if len(set(names)) != len(names):
            raise ValueError("each {name} may stand in the path once")
        if _PARAMETER.fullmatch(segments[1]):
            raise ValueError("must begin with a plain part, as in /hooks/{tenant}, or it would hide other paths")
        return value

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one method, such as POST")
        return value

    @model_validator(mode="after")
    def _secret_has_its_place(self) -> Self:
        stands = SECRET in self.parameters
        if stands != (self.path_secret is not None):
            raise ValueError("`path_secret` goes with {secret} in `path`, as in /hooks/orders/{secret}")
        if not all(self.path_secrets) or (self.path_secret is not None and not self.path_secrets):
            raise ValueError("`path_secret` is empty; give it as env:NAME or file:/path, and set that")
        return self

    @property
    def asked_by(self) -> tuple[str, ...]:
        """Return the senders that may ask by OPTIONS whether they may deliver here."""
        return self.cloudevents.origins or ((ORIGIN,) if self.format == "event-grid" else ())

    @property
    def asks_by_options(self) -> bool:
        """Say whether anybody may ask by OPTIONS."""
        return bool(self.asked_by)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def path_secrets(self) -> tuple[str, ...]:
        """Return the live secrets of the path."""
        given: Any = self.path_secret
        secrets = () if given is None else given if isinstance(given, tuple) else (given,)
        return tuple(secret.get_secret_value().strip() for secret in secrets)
