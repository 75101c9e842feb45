"""Verifiers after Standard Webhooks 1.0: `standard-webhooks` itself, and `gitlab`, which signs the same way.

Signed are the raw bytes behind id and time of the delivery. `v1` is an HMAC under a `whsec_` secret, `v1a` an ed25519
signature that a `whpk_` key checks. Several signatures in the header, and several keys here, let either side rotate.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Any, Literal

from pydantic import Field

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

_MAX_SIGNATURES = 16
_PUBLIC, _PRIVATE, _SHARED = b"p", b"s", b"k"  # the first byte of a key says which it is
_GITLAB_EVENT = re.compile(r"[A-Za-z0-9_ ]{1,64}", re.ASCII)


class StandardWebhooksOptions(SecretOptions):
    """Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

    The secret is `whsec_` + base64 (`v1`), or the sender's public key, `whpk_` + base64 (`v1a`).
    """

    scheme: Literal["standard-webhooks"]
    tolerance: Duration = 300.0


class GitlabOptions(SecretOptions):
    """GitLab's secret token in `X-Gitlab-Token`; with `signed` its signing token instead, which proves the content."""

    scheme: Literal["gitlab"]
    signed: bool = Field(False, description="the secret is a signing token (whsec_…), and each delivery is signed")
    tolerance: Duration = 300.0


def check_standard_webhooks(request: Request, keys: Keys, options: StandardWebhooksOptions, now: int) -> None:
    """Compare each signature with `{id}.{timestamp}.{body}` under every live key; ignore versions that are unknown."""
    _check(request, keys, options.tolerance, now)


def check_gitlab(request: Request, keys: Keys, options: GitlabOptions, now: int) -> None:
    """Compare the token with every live secret in constant time, or check the signature."""
    if options.signed:
        _check(request, keys, options.tolerance, now)
        return
    given = only(request, "x-gitlab-token").encode("latin-1")
    if True not in [compare_digest(given, key) for key in keys]:
        raise Forged("the token is wrong")


def _check(request: Request, keys: Keys, tolerance: float, now: int) -> None:
    id_ = only(request, "webhook-id")
    timestamp = only(request, "webhook-timestamp")
    in_window(timestamp, tolerance, now)
    if not id_ or "." in id_:
        raise Forged("webhook-id is empty or contains a dot, which would let parts be shifted")
    signed = f"{id_}.{timestamp}.".encode() + request.body
    given = only(request, "webhook-signature").split(" ")
    if len(given) > _MAX_SIGNATURES:
        raise Forged("too many signatures")
    shared = [key[1:] for key in keys if key[:1] == _SHARED]
    ours = ["v1," + base64.b64encode(hmac_digest(key, signed, "sha256")).decode() for key in shared]
    right = [compare_digest(theirs, our) for theirs in given for our in ours]
    if True in right:
        return
    public = [key[1:] for key in keys if key[:1] == _PUBLIC]
    if not public or not _fits(given, public, signed):
        raise Forged("no signature fits")


def _fits(given: Sequence[str], public: Sequence[bytes], signed: bytes) -> bool:
    """Say whether one of the `v1a` signatures is right; whatever is none does not hide another that is."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    keys = [Ed25519PublicKey.from_public_bytes(key) for key in public]
    for text in given:
        if not text.startswith("v1a,"):
            continue
        try:
            signature = base64.b64decode(text[4:], validate=True)
        except (binascii.Error, ValueError):
            continue
        for key in keys:
            try:
                key.verify(signature, signed)
            except InvalidSignature:
                continue
            return True
    return False


def standard_keys(options: SecretOptions) -> Keys:
    """Return the keys behind `whsec_`, `whpk_` and `whsk_`. Raises ValueError for what is no such key."""
    keys: list[bytes] = []
    for text in options.texts():
        mark = {"whpk_": _PUBLIC, "whsk_": _PRIVATE}.get(text[:5], _SHARED)
        name = "whsec_" if mark == _SHARED else text[:5]
        try:
            raw = base64.b64decode(text.removeprefix(name), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"standard-webhooks: the secret must be {name} followed by base64") from None
        if not raw:
            raise ValueError(f"standard-webhooks: the secret is empty behind {name}")
        if mark == _PRIVATE:
            keys.append(_PUBLIC + _public_of(raw))
        elif mark == _PUBLIC and len(raw) != 32:
            raise ValueError("standard-webhooks: behind whpk_ stand the 32 bytes of an ed25519 key, in base64")
        keys.append(mark + raw)
    return tuple(keys)


def _public_of(raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(raw) not in (32, 64):
        raise ValueError("standard-webhooks: behind whsk_ stand 32 or 64 bytes of an ed25519 key, in base64")
    return Ed25519PrivateKey.from_private_bytes(raw[:32]).public_key().public_bytes_raw()


def _gitlab_keys(options: GitlabOptions) -> Keys:
    return standard_keys(options) if options.signed else utf8_keys(options)


def _named_by_gitlab(request: Request, _document: Any) -> Named:
    """Read `Push Hook` as gitlab.push. The id stays the same when GitLab sends a delivery again."""
    name = request.header("x-gitlab-event")
    type_ = None
    if name and _GITLAB_EVENT.fullmatch(name):
        type_ = "gitlab." + name.removesuffix(" Hook").strip().lower().replace(" ", "_")
    return one_header(request, "webhook-id") or one_header(request, "idempotency-key"), type_


def _sign_standard(draft: Draft, keys: Keys, _options: Any) -> Mapping[str, str]:
    timestamp = str(draft.at // 1_000_000)
    signed = f"{draft.id}.{timestamp}.".encode() + draft.body
    for key in keys:
        if key[:1] == _SHARED:
            text = "v1," + base64.b64encode(hmac_digest(key[1:], signed, "sha256")).decode()
            break
        if key[:1] == _PRIVATE:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            signature = Ed25519PrivateKey.from_private_bytes(key[1:33]).sign(signed)
            text = "v1a," + base64.b64encode(signature).decode()
            break
    else:
        raise ValueError("a public key (whpk_) signs nothing; give the private one (whsk_) to send samples")
    return {"webhook-id": draft.id, "webhook-timestamp": timestamp, "webhook-signature": text}


def _sign_gitlab(draft: Draft, keys: Keys, options: GitlabOptions) -> Mapping[str, str]:
    headers = {"x-gitlab-event": "Push Hook", "idempotency-key": draft.id}
    if options.signed:
        return {**headers, **_sign_standard(draft, keys, options)}
    return {**headers, "x-gitlab-token": keys[0].decode("latin-1")}


def _standard_headers(_options: Any) -> tuple[str, ...]:
    return ("webhook-signature",)


def _gitlab_headers(_options: GitlabOptions) -> tuple[str, ...]:
    return ("x-gitlab-token", "webhook-signature")


STANDARD_WEBHOOKS = Verifier(
    "standard-webhooks",
    "Standard Webhooks 1.0: signed id and timestamp; whsec_ secret (v1) or whpk_ public key (v1a)",
    StandardWebhooksOptions,
    check_standard_webhooks,
    keys=standard_keys,
    secret_headers=_standard_headers,
    delivery="webhook-id",
    sign=_sign_standard,
)
GITLAB = Verifier(
    "gitlab",
    "GitLab's X-Gitlab-Token, or its signing token",
    GitlabOptions,
    check_gitlab,
    keys=_gitlab_keys,
    secret_headers=_gitlab_headers,
    named=_named_by_gitlab,
    sign=_sign_gitlab,
)
