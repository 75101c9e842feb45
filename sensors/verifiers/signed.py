"""Verifiers of signatures over the raw bytes: generic `hmac` and `github`.

Comparisons take constant time. Where a scheme signs a timestamp, it must lie within `tolerance` of our clock, on both
sides.
"""

import base64
import re
from collections.abc import Mapping
from functools import cached_property
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from sensors.sensor import Request
from sensors.units import Duration
from sensors.verifiers.model import (
    Draft,
    Forged,
    Keys,
    Named,
    SecretOptions,
    Verifier,
    in_window,
    one_header,
    only,
    utf8_keys,
)

_BODY = "{body}"
_TIMESTAMP = "{timestamp}"
_GITHUB_EVENT = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class HmacOptions(SecretOptions):
    """A hash-based signature in a header of your naming.

    `prefix` stands before the signature in the header (`sha256=`). With `timestamp_header` the signed text follows
    `template`, and the timestamp (unix seconds) must lie within `tolerance`; otherwise the body alone is signed.
    """

    scheme: Literal["hmac"]
    header: str
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    timestamp_header: str | None = None
    template: str = "{timestamp}.{body}"
    tolerance: Duration = 300.0

    @field_validator("header", "timestamp_header")
    @classmethod
    def _lower(cls, value: str | None) -> str | None:
        return value.lower() if value is not None else None

    @model_validator(mode="after")
    def _template_fits(self) -> Self:
        if self.timestamp_header is None:
            return self
        if self.template.count(_BODY) != 1 or self.template.count(_TIMESTAMP) != 1:
            raise ValueError("template needs {timestamp} and {body} once each, such as '{timestamp}.{body}'")
        return self

    @cached_property
    def around(self) -> tuple[str, str]:
        """Return what the template puts before and after the body."""
        before, _, after = self.template.partition(_BODY)
        return before, after


class GithubOptions(SecretOptions):
    """GitHub's `X-Hub-Signature-256`; the delivery id becomes the event id."""

    scheme: Literal["github"]


def check_hmac(request: Request, keys: Keys, options: HmacOptions, now: int) -> None:
    """Compare the signature in the header with that of every live secret."""
    given = only(request, options.header).strip()
    if options.prefix:
        if not given.startswith(options.prefix):
            raise Forged(f"header {options.header} does not start with {options.prefix!r}")
        given = given[len(options.prefix) :]
    signed = request.body
    if options.timestamp_header is not None:
        timestamp = only(request, options.timestamp_header).strip()
        in_window(timestamp, options.tolerance, now)
        before, after = options.around
        signed = before.replace(_TIMESTAMP, timestamp).encode() + signed + after.replace(_TIMESTAMP, timestamp).encode()
    algorithm = options.algorithm
    if options.encoding == "hex":
        given = given.lower()
        right = [compare_digest(given, hmac_digest(key, signed, algorithm).hex()) for key in keys]
    else:
        raw = base64.b64decode(given, validate=True)
        right = [compare_digest(raw, hmac_digest(key, signed, algorithm)) for key in keys]
    if True not in right:
        raise Forged("the signature is wrong")


def check_github(request: Request, keys: Keys, _options: GithubOptions, _now: int) -> None:
    """Compare `sha256=<hex>` with the signature of the body under every live secret."""
    given = only(request, "x-hub-signature-256")
    body = request.body
    if True not in [compare_digest(given, "sha256=" + hmac_digest(key, body, "sha256").hex()) for key in keys]:
        raise Forged("the signature is wrong")


def _named_by_github(request: Request, _document: Any) -> Named:
    name = request.header("x-github-event")
    type_ = f"github.{name}" if name and _GITHUB_EVENT.fullmatch(name) else None
    return one_header(request, "x-github-delivery"), type_


def _sign_hmac(draft: Draft, keys: Keys, options: HmacOptions) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    signed = draft.body
    if options.timestamp_header is not None:
        timestamp = headers[options.timestamp_header] = str(draft.at // 1_000_000)
        before, after = options.around
        signed = before.replace(_TIMESTAMP, timestamp).encode() + signed + after.replace(_TIMESTAMP, timestamp).encode()
    raw = hmac_digest(keys[0], signed, options.algorithm)
    text = raw.hex() if options.encoding == "hex" else base64.b64encode(raw).decode()
    headers[options.header] = options.prefix + text
    return headers


def _sign_github(draft: Draft, keys: Keys, _options: GithubOptions) -> Mapping[str, str]:
    signature = "sha256=" + hmac_digest(keys[0], draft.body, "sha256").hex()
    return {"x-github-event": "push", "x-github-delivery": draft.id, "x-hub-signature-256": signature}


def _hmac_headers(options: HmacOptions) -> tuple[str, ...]:
    return (options.header,)


def _github_headers(_options: GithubOptions) -> tuple[str, ...]:
    return ("x-hub-signature", "x-hub-signature-256")


HMAC = Verifier(
    "hmac",
    "a hash-based signature in a header: algorithm, encoding, prefix and timestamp as the sender has them",
    HmacOptions,
    check_hmac,
    keys=utf8_keys,
    secret_headers=_hmac_headers,
    sign=_sign_hmac,
)
GITHUB = Verifier(
    "github",
    "GitHub's X-Hub-Signature-256",
    GithubOptions,
    check_github,
    keys=utf8_keys,
    secret_headers=_github_headers,
    delivery="x-github-delivery",
    named=_named_by_github,
    sign=_sign_github,
)
