"""Verifiers without a signature: `none` (written out), `bearer`, `basic` and `api-key`.

They prove the sender, not the content.
"""

import base64
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import Field, field_validator

from sensors.sensor import Request
from sensors.verifiers.model import Draft, Forged, Keys, SecretOptions, Verifier, VerifyOptions, only, utf8_keys

_MAX_QUERY = 8192


class NoneOptions(VerifyOptions):
    """Anybody who knows the address may post."""

    scheme: Literal["none"]


class BearerOptions(SecretOptions):
    """`Authorization: Bearer <secret>`, or `?access_token=<secret>` for senders that set no headers."""

    scheme: Literal["bearer"]


class BasicOptions(SecretOptions):
    """`Authorization: Basic base64(username:secret)`."""

    scheme: Literal["basic"]
    username: str


class ApiKeyOptions(SecretOptions):
    """The secret as it is, in a header of your naming."""

    scheme: Literal["api-key"]
    header: str = Field("x-api-key", pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")

    @field_validator("header")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()


def check_none(_request: Request, _keys: Keys, _options: NoneOptions, _now: int) -> None:
    """Let everybody in."""


def bearer_token(request: Request) -> str:
    """Return the token of the Authorization header, or else of the query. Raises Forged when there is not one."""
    in_query: tuple[str, ...] = ()
    if "access_token=" in request.query:
        pairs = parse_qsl(request.query[:_MAX_QUERY], keep_blank_values=True, max_num_fields=64, encoding="latin-1")
        in_query = tuple(value for name, value in pairs if name == "access_token")
    if not in_query:
        scheme, _, token = only(request, "authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise Forged("another scheme than Bearer")
        return token.strip()
    if len(in_query) > 1 or "authorization" in request.headers:
        raise Forged("several tokens came, in the query and elsewhere")
    return in_query[0]


def check_bearer(request: Request, keys: Keys, _options: BearerOptions, _now: int) -> None:
    """Compare the bearer token with every live secret, in constant time."""
    given = bearer_token(request).encode("latin-1")  # the bytes as they came
    if True not in [compare_digest(given, key) for key in keys]:
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


def check_api_key(request: Request, keys: Keys, options: ApiKeyOptions, _now: int) -> None:
    """Compare the header with every live secret, in constant time."""
    given = only(request, options.header).encode("latin-1")
    if True not in [compare_digest(given, key) for key in keys]:
        raise Forged("the key is wrong")


def _authorization(_options: VerifyOptions) -> tuple[str, ...]:
    return ("authorization",)


def _key_header(options: ApiKeyOptions) -> tuple[str, ...]:
    return (options.header,)


def _sign_none(_draft: Draft, _keys: Keys, _options: Any) -> Mapping[str, str]:
    return {}


def _sign_bearer(_draft: Draft, keys: Keys, _options: Any) -> Mapping[str, str]:
    return {"authorization": "Bearer " + keys[0].decode("latin-1")}


def _sign_basic(_draft: Draft, keys: Keys, options: BasicOptions) -> Mapping[str, str]:
    pair = options.username.encode() + b":" + keys[0]
    return {"authorization": "Basic " + base64.b64encode(pair).decode()}


def _sign_api_key(_draft: Draft, keys: Keys, options: ApiKeyOptions) -> Mapping[str, str]:
    return {options.header: keys[0].decode("latin-1")}


NONE = Verifier(
    "none",
    "no check: anybody who can reach it may post",
    NoneOptions,
    check_none,
    proves=False,
    sign=_sign_none,
)
BEARER = Verifier(
    "bearer",
    "a token in the Authorization header, or in the query as access_token",
    BearerOptions,
    check_bearer,
    keys=utf8_keys,
    secret_headers=_authorization,
    challenge="Bearer",
    sign=_sign_bearer,
)
BASIC = Verifier(
    "basic",
    "user name and password in the Authorization header",
    BasicOptions,
    check_basic,
    keys=utf8_keys,
    secret_headers=_authorization,
    challenge='Basic realm="webhook", charset="UTF-8"',
    sign=_sign_basic,
)
API_KEY = Verifier(
    "api-key",
    "the secret as it is, in a header of your naming",
    ApiKeyOptions,
    check_api_key,
    keys=utf8_keys,
    secret_headers=_key_header,
    sign=_sign_api_key,
)
