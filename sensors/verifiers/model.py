"""What a verifier is: a pure check of one request against key bytes, and the options that configure it.

In flow the raw request, the keys of all live secrets, the scheme's options and the time; out flows nothing, or a
refusal with status 401. Whatever happens inside a check (bad base64, odd text, a missing header) is a refusal too, and
the sender never learns which it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from sensors.errors import Refused
from sensors.sensor import Request

Keys = tuple[bytes, ...]
Check = Callable[[Request, Keys, Any, int], None]
Bound = Callable[[Request], None]


class Forged(Exception):
    """The request does not prove where it comes from; the sentence is for operators only."""


class VerifyOptions(BaseModel):
    """Options of a scheme; each scheme's model adds `scheme` and its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
class Verifier:
    """One scheme.

    `keys` turns options into key bytes once (ValueError for a secret of the wrong form); `secret_headers` names the
    headers that carry the proof and are not kept; `delivery` is the header with the provider's delivery id; `proves`
    says whether passing it makes a sender trusted; `challenge` goes into WWW-Authenticate.
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

    def bind(self, options: VerifyOptions) -> Bound:
        """Return the check with its keys in hand. The result raises Refused(401) and nothing else.

        Raises ValueError when a secret has the wrong form.
        """
        check, keys, scheme = self.check, self.keys(options), self.scheme
        headers = {"www-authenticate": self.challenge} if self.challenge else None

        def bound(request: Request) -> None:
            try:
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
