"""Verifiers of signatures over the raw bytes: generic `hmac`, `github` and `standard-webhooks`.

Comparisons take constant time. Where a scheme signs a timestamp, it must lie within `tolerance` of our clock, on both
sides.
"""

import base64
import binascii
from functools import cached_property
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Literal, Self

from pydantic import field_validator, model_validator

from sensors.sensor import Request
from sensors.units import Duration
from sensors.verifiers.model import Forged, Keys, SecretOptions, Verifier, in_window, only, utf8_keys

_BODY = "{body}"
_TIMESTAMP = "{timestamp}"


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


class StandardWebhooksOptions(SecretOptions):
    """Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`; secret is `whsec_` + base64."""

    scheme: Literal["standard-webhooks"]
    tolerance: Duration = 300.0


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


def check_standard_webhooks(request: Request, keys: Keys, options: StandardWebhooksOptions, now: int) -> None:
    """Compare each `v1` signature with that of `{id}.{timestamp}.{body}` under every live secret; ignore others."""
    id_ = only(request, "webhook-id")
    timestamp = only(request, "webhook-timestamp")
    in_window(timestamp, options.tolerance, now)
    if not id_ or "." in id_:
        raise Forged("webhook-id is empty or contains a dot, which would let parts be shifted")
    signed = f"{id_}.{timestamp}.".encode() + request.body
    given = only(request, "webhook-signature").split(" ")
    if len(given) > 16:
        raise Forged("too many signatures")
    ours = ["v1," + base64.b64encode(hmac_digest(key, signed, "sha256")).decode() for key in keys]
    right = [compare_digest(theirs, our) for theirs in given for our in ours]
    if True not in right:
        raise Forged("no signature fits")


def standard_keys(options: StandardWebhooksOptions) -> Keys:
    """Return the key bytes behind `whsec_`. Raises ValueError for what is no such secret."""
    keys: list[bytes] = []
    for text in options.texts():
        if text.startswith(("whpk_", "whsk_")):
            raise ValueError("standard-webhooks: whpk_/whsk_ keys (v1a) are not supported; use the whsec_ secret")
        try:
            keys.append(base64.b64decode(text.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            raise ValueError("standard-webhooks: the secret must be whsec_ followed by base64") from None
        if not keys[-1]:
            raise ValueError("standard-webhooks: the secret is empty behind whsec_")
    return tuple(keys)


def _hmac_headers(options: HmacOptions) -> tuple[str, ...]:
    return (options.header,)


def _github_headers(_options: GithubOptions) -> tuple[str, ...]:
    return ("x-hub-signature", "x-hub-signature-256")


def _standard_headers(_options: StandardWebhooksOptions) -> tuple[str, ...]:
    return ("webhook-signature",)


HMAC = Verifier(
    "hmac",
    "a hash-based signature in a header: algorithm, encoding, prefix and timestamp as the sender has them",
    HmacOptions,
    check_hmac,
    keys=utf8_keys,
    secret_headers=_hmac_headers,
)
GITHUB = Verifier(
    "github",
    "GitHub's X-Hub-Signature-256",
    GithubOptions,
    check_github,
    keys=utf8_keys,
    secret_headers=_github_headers,
    delivery="x-github-delivery",
)
STANDARD_WEBHOOKS = Verifier(
    "standard-webhooks",
    "Standard Webhooks 1.0: whsec_ secret, signed id and timestamp",
    StandardWebhooksOptions,
    check_standard_webhooks,
    keys=standard_keys,
    secret_headers=_standard_headers,
    delivery="webhook-id",
)
