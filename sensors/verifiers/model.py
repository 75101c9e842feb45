"""What a verifier is: a pure check of one request against key bytes, and the options that configure it.

In flow the raw request, the keys of all live secrets, the scheme's options and the time; out flows nothing, or a
refusal with status 401. Whatever happens inside a check (bad base64, odd text, a missing header) is a refusal too, and
the sender never learns which it was.

A scheme whose keys lie elsewhere (JWT, SNS) is `live`: it may wait for them before the check, which stays pure.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from sensors.batch import Reply
from sensors.clock import Clock
from sensors.cloudevents import Envelope
from sensors.errors import Refused
from sensors.event import EMPTY
from sensors.sensor import Request
from sensors.verifiers.addresses import check_networks, from_allowed

Keys = tuple[bytes, ...]
Check = Callable[[Request, Keys, Any, int], None]
Bound = Callable[[Request], None]
Named = tuple[str | None, str | None]  # the delivery's id and the event's type, as far as the provider tells them
# GET over https. Raises sensors.ports.Unavailable with a sentence, or LookupError when the host says there is nothing.
Fetch = Callable[[str], Awaitable[bytes]]


class Forged(Exception):
    """The request does not prove where it comes from; the sentence is for operators only."""


class VerifyOptions(BaseModel):
    """Options of a scheme; each scheme's model adds `scheme` and its own.

    `allow_from` narrows any scheme down to networks. `proxies` are those whose forwarded headers are believed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_from: tuple[str, ...] = Field((), description="addresses (CIDR) that may post; by default all")
    proxies: tuple[str, ...] = Field(
        (), description="addresses (CIDR) of proxies of yours, whose X-Forwarded-For is believed"
    )

    @field_validator("allow_from", "proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_networks(value)
        return value


class SecretOptions(VerifyOptions):
    """Options of a scheme with a shared secret: one, or several while one replaces the other."""

    secret: SecretStr | tuple[SecretStr, ...]

    @field_validator("secret")
    @classmethod
    def _not_empty(cls, value: SecretStr | tuple[SecretStr, ...]) -> SecretStr | tuple[SecretStr, ...]:
        secrets = (value,) if isinstance(value, SecretStr) else value
        if not secrets or not all(secret.get_secret_value().strip() for secret in secrets):
            raise ValueError("is empty; give the secret as env:NAME or file:/path, and set that")
        return value

    def texts(self) -> tuple[str, ...]:
        """Return the live secrets as text."""
        secrets = (self.secret,) if isinstance(self.secret, SecretStr) else self.secret
        return tuple(secret.get_secret_value() for secret in secrets)


def utf8_keys(options: SecretOptions) -> Keys:
    """Return the secrets' UTF-8 bytes as they are."""
    return tuple(text.encode() for text in options.texts())


def no_keys(_options: VerifyOptions) -> Keys:
    """Return no keys, for schemes without a secret."""
    return ()


def no_headers(_options: Any) -> tuple[str, ...]:
    """Return no headers."""
    return ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is about to be signed, as its provider would: what `sign` sees. `at` is UTC microseconds."""

    body: bytes
    path: str
    query: str = ""
    content_type: str = "application/json"
    at: int = 0
    id: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)


class Live(Protocol):
    """A scheme whose keys are fetched, bound to its options."""

    async def prepare(self, request: Request) -> None:
        """Have the keys at hand that this request will be checked with; a stranger may have sent it.

        Raises sensors.ports.Unavailable when they cannot be had: our trouble, not the sender's.
        """
        ...

    def check(self, request: Request) -> None:
        """Check with what is at hand. Raises Forged, or anything."""
        ...

    async def confirm(self, request: Request) -> None:
        """Do what the verified request asks for before it is answered. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Verifier:
    """One scheme.

    `keys` turns options into key bytes once (ValueError for a secret of the wrong form); `secret_headers` names the
    headers that carry the proof and are not kept; `delivery` is the header with the provider's delivery id; `proves`
    says whether passing it makes a sender trusted; `challenge` goes into WWW-Authenticate.

    After the check: `named` reads id and type from request and parsed body, `unwrap` takes the provider's envelope off
    the body, `handshake` answers a verified request that is no event. `sign` makes the headers that pass the check
    (ValueError where that takes more than the options hold). `live` binds a scheme whose keys are fetched; its `check`
    is then never called.
    """

    scheme: str
    help: str
    options: type[VerifyOptions]
    check: Check
    keys: Callable[[Any], Keys] = no_keys
    secret_headers: Callable[[Any], tuple[str, ...]] = no_headers
    delivery: str | None = None
    proves: bool = True
    challenge: str | None = None
    named: Callable[[Request, Any], Named] | None = None
    unwrap: Callable[[Any], Envelope] | None = None
    handshake: Callable[[Any], Reply | None] | None = None
    sign: Callable[[Draft, Keys, Any], Mapping[str, str]] | None = None
    live: Callable[[Any, Fetch | None, Clock], Live] | None = None

    def bind(self, options: VerifyOptions, live: Live | None = None) -> Bound:
        """Return the check with its keys in hand. The result raises Refused(401) and nothing else.

        Raises ValueError when a secret has the wrong form.
        """
        check, keys, scheme = self.check, self.keys(options), self.scheme
        inside = from_allowed(options.allow_from, options.proxies) if options.allow_from else None
        headers = {"www-authenticate": self.challenge} if self.challenge else None

        def bound(request: Request) -> None:
            try:
                if inside is not None and not inside(request):
                    raise Forged(f"{request.client} is not among `allow_from`")
                if live is not None:
                    live.check(request)
                else:
                    check(request, keys, options, request.received_at)
            except Exception as error:
                reason = str(error) if isinstance(error, Forged) else type(error).__name__
                raise Refused(401, "unverified", f"{scheme}: {reason}", headers=headers) from error

        return bound


def only(request: Request, name: str) -> str:
    """Return the one value of a header. Raises Forged when it is absent or there are several to choose from."""
    values = request.headers.get(name)
    if not values:
        raise Forged(f"header {name} is missing")
    if len(values) != 1:
        raise Forged(f"header {name} came {len(values)} times")
    return values[0]


def in_window(text: str, tolerance: float, now: int) -> int:
    """Return the moment (UTC micros) of unix seconds in `text`. Raises Forged when not within `tolerance` of `now`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Forged("the timestamp is not in unix seconds")
    at = int(text) * 1_000_000
    if abs(now - at) > tolerance * 1_000_000:
        raise Forged(f"the timestamp is {(now - at) / 1e6:+.0f} s from our clock, and {tolerance:g} s are allowed")
    return at


def text_of(value: Any, limit: int = 255) -> str | None:
    """Return text that a provider's body holds, None for anything else: empty, long, or not plain ASCII."""
    if not isinstance(value, str) or not value or len(value) > limit or not value.isascii() or not value.isprintable():
        return None
    return value


def one_header(request: Request, name: str) -> str | None:
    """Return a header's first value, None when it is absent or empty."""
    return request.header(name) or None
