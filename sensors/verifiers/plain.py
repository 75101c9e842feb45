"""Verifiers without a signature: `none` (written out), `bearer` and `basic`. They prove the sender, not the content."""

import base64
from hmac import compare_digest
from typing import Literal

from sensors.sensor import Request
from sensors.verifiers.model import Forged, Keys, SecretOptions, Verifier, VerifyOptions, only, utf8_keys


class NoneOptions(VerifyOptions):
    """Anybody who knows the address may post."""

    scheme: Literal["none"]


class BearerOptions(SecretOptions):
    """`Authorization: Bearer <secret>`."""

    scheme: Literal["bearer"]


class BasicOptions(SecretOptions):
    """`Authorization: Basic base64(username:secret)`."""

    scheme: Literal["basic"]
    username: str


def check_none(_request: Request, _keys: Keys, _options: NoneOptions, _now: int) -> None:
    """Let everybody in."""


def check_bearer(request: Request, keys: Keys, _options: BearerOptions, _now: int) -> None:
    """Compare the bearer token with every live secret, in constant time."""
    scheme, _, token = only(request, "authorization").partition(" ")
    given = token.strip().encode("latin-1")  # the bytes as they came
    if scheme.lower() != "bearer" or True not in [compare_digest(given, key) for key in keys]:
        raise Forged("the bearer token is wrong")


def check_basic(request: Request, keys: Keys, options: BasicOptions, _now: int) -> None:
    """Compare user name and password with every live secret, in constant time."""
    scheme, _, encoded = only(request, "authorization").partition(" ")
    if scheme.lower() != "basic":
        raise Forged("another scheme than Basic")
    user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    right_user = compare_digest(user, options.username.encode())
    right_password = True in [compare_digest(password, key) for key in keys]
    if not (right_user and right_password):
        raise Forged("user name or password is wrong")


def _authorization(_options: VerifyOptions) -> tuple[str, ...]:
    return ("authorization",)


NONE = Verifier("none", "no check: anybody who can reach it may post", NoneOptions, check_none, proves=False)
BEARER = Verifier(
    "bearer",
    "a token in the Authorization header",
    BearerOptions,
    check_bearer,
    keys=utf8_keys,
    secret_headers=_authorization,
    challenge="Bearer",
)
BASIC = Verifier(
    "basic",
    "user name and password in the Authorization header",
    BasicOptions,
    check_basic,
    keys=utf8_keys,
    secret_headers=_authorization,
    challenge='Basic realm="webhook", charset="UTF-8"',
)
