"""Verifiers of single providers: `stripe`, `slack`, `shopify` and `twilio`.

Signed are the raw bytes; Twilio signs the URL and the sorted parameters of a form, or the hash of another body. Where a
time is signed, it must lie within `tolerance` of our clock, on both sides.
"""

import base64
import hashlib
from collections.abc import Mapping
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl

from pydantic import Field, field_validator

from sensors.batch import Reply
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
    text_of,
    utf8_keys,
)

_MAX_PARTS = 32
_MAX_CHALLENGE = 1024
_MAX_FIELDS = 1000
_FORM = "application/x-www-form-urlencoded"


class StripeOptions(SecretOptions):
    """Stripe's `Stripe-Signature`; the secret is the endpoint's, `whsec_` included."""

    scheme: Literal["stripe"]
    tolerance: Duration = 300.0


class SlackOptions(SecretOptions):
    """Slack's `X-Slack-Signature`; the URL's challenge is answered when it is signed."""

    scheme: Literal["slack"]
    tolerance: Duration = 300.0


class ShopifyOptions(SecretOptions):
    """Shopify's `X-Shopify-Hmac-Sha256`; the secret is the app's client secret."""

    scheme: Literal["shopify"]


class TwilioOptions(SecretOptions):
    """Twilio's `X-Twilio-Signature`; the secret is the account's auth token."""

    scheme: Literal["twilio"]
    url: str = Field(description="where Twilio finds this service, such as https://hooks.example.com; it is signed")

    @field_validator("url")
    @classmethod
    def _is_base(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")) or "?" in value or "#" in value:
            raise ValueError("must be scheme and host, such as https://hooks.example.com; the path is added")
        return value.rstrip("/")


# -- Stripe ------------------------------------------------------------------------------------------------------------
def check_stripe(request: Request, keys: Keys, options: StripeOptions, now: int) -> None:
    """Compare each `v1` signature with that of `{t}.{body}` under every live secret; ignore other schemes."""
    parts = [part.strip().partition("=") for part in only(request, "stripe-signature").split(",", _MAX_PARTS)]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1:
        raise Forged("there is not exactly one `t`")
    in_window(times[0], options.tolerance, now)
    signed = times[0].encode() + b"." + request.body
    ours = [hmac_digest(key, signed, "sha256").hex() for key in keys]
    given = [value for name, _, value in parts if name == "v1"]
    if True not in [compare_digest(theirs, our) for theirs in given for our in ours]:
        raise Forged("no v1 signature fits")


def _named_by_stripe(_request: Request, document: Any) -> Named:
    if not isinstance(document, dict):
        return None, None
    type_ = text_of(document.get("type"), 128)
    return text_of(document.get("id")), f"stripe.{type_}" if type_ else None


def _sign_stripe(draft: Draft, keys: Keys, _options: StripeOptions) -> Mapping[str, str]:
    timestamp = str(draft.at // 1_000_000)
    signature = hmac_digest(keys[0], timestamp.encode() + b"." + draft.body, "sha256").hex()
    return {"stripe-signature": f"t={timestamp},v1={signature}"}


# -- Slack -------------------------------------------------------------------------------------------------------------
def check_slack(request: Request, keys: Keys, options: SlackOptions, now: int) -> None:
    """Compare `v0=<hex>` with the signature of `v0:{timestamp}:{body}` under every live secret."""
    timestamp = only(request, "x-slack-request-timestamp")
    in_window(timestamp, options.tolerance, now)
    given = only(request, "x-slack-signature")
    signed = f"v0:{timestamp}:".encode() + request.body
    if True not in [compare_digest(given, "v0=" + hmac_digest(key, signed, "sha256").hex()) for key in keys]:
        raise Forged("the signature is wrong")


def _slack_challenge(document: Any) -> Reply | None:
    """Answer the question that Slack asks when a URL is entered; it is no event."""
    if not isinstance(document, dict) or document.get("type") != "url_verification":
        return None
    challenge = text_of(document.get("challenge"), _MAX_CHALLENGE)
    return None if challenge is None else Reply(200, challenge.encode(), "text/plain")


def _named_by_slack(_request: Request, document: Any) -> Named:
    if not isinstance(document, dict):
        return None, None
    inner = document.get("event")
    type_ = text_of(inner.get("type") if isinstance(inner, dict) else document.get("type"), 64)
    return text_of(document.get("event_id")), f"slack.{type_}" if type_ else None


def _sign_slack(draft: Draft, keys: Keys, _options: SlackOptions) -> Mapping[str, str]:
    timestamp = str(draft.at // 1_000_000)
    signature = hmac_digest(keys[0], f"v0:{timestamp}:".encode() + draft.body, "sha256").hex()
    return {"x-slack-request-timestamp": timestamp, "x-slack-signature": f"v0={signature}"}


# -- Shopify -----------------------------------------------------------------------------------------------------------
def check_shopify(request: Request, keys: Keys, _options: ShopifyOptions, _now: int) -> None:
    """Compare the base64 signature with that of the body under every live secret."""
    given = base64.b64decode(only(request, "x-shopify-hmac-sha256"), validate=True)
    if True not in [compare_digest(given, hmac_digest(key, request.body, "sha256")) for key in keys]:
        raise Forged("the signature is wrong")


def _named_by_shopify(request: Request, _document: Any) -> Named:
    """Tell deliveries apart by topic and event: one event may be told of under several topics."""
    topic, event = one_header(request, "x-shopify-topic"), one_header(request, "x-shopify-event-id")
    id_ = f"{topic or ''} {event}".strip() if event else one_header(request, "x-shopify-webhook-id")
    return id_, f"shopify.{topic}" if text_of(topic, 128) else None


def _sign_shopify(draft: Draft, keys: Keys, _options: ShopifyOptions) -> Mapping[str, str]:
    signature = base64.b64encode(hmac_digest(keys[0], draft.body, "sha256")).decode()
    return {
        "x-shopify-topic": "orders/create",
        "x-shopify-event-id": draft.id,
        "x-shopify-hmac-sha256": signature,
    }


# -- Twilio ------------------------------------------------------------------------------------------------------------
def check_twilio(request: Request, keys: Keys, options: TwilioOptions, _now: int) -> None:
    """Compare the base64 signature with that of the URL and the form's parameters under every live secret."""
    given = base64.b64decode(only(request, "x-twilio-signature"), validate=True)
    hashes = parse_qs(request.query, max_num_fields=64).get("bodySHA256")
    form = (request.header("content-type") or "").split(";", 1)[0].strip().lower() == _FORM
    if hashes is not None:
        if len(hashes) != 1 or not compare_digest(hashes[0].lower(), hashlib.sha256(request.body).hexdigest()):
            raise Forged("the body is not the one whose hash is in the URL")
    elif request.body and not form:
        raise Forged("neither a form nor a hash of the body in the URL: the body is not signed")
    signed = _twilio_text(options.url + request.target, request.body if form else b"")
    if True not in [compare_digest(given, hmac_digest(key, signed, "sha1")) for key in keys]:
        raise Forged("the signature is wrong")


def _twilio_text(url: str, body: bytes) -> bytes:
    """Return what is signed: the URL, then names and values of the form, sorted, each pair once."""
    pairs = parse_qsl(
        body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, encoding="utf-8", errors="strict"
    )
    return (url + "".join(name + value for name, value in sorted(set(pairs)))).encode()


def _named_by_twilio(request: Request, _document: Any) -> Named:
    return one_header(request, "i-twilio-idempotency-token"), None


def _sign_twilio(draft: Draft, keys: Keys, options: TwilioOptions) -> Mapping[str, str]:
    form = draft.content_type.split(";", 1)[0].strip().lower() == _FORM
    if not form and "bodySHA256=" not in draft.query:
        raise ValueError("Twilio signs forms; for another body add ?bodySHA256=<its SHA-256 in hex> to the URL")
    url = options.url + draft.path + (f"?{draft.query}" if draft.query else "")
    signature = hmac_digest(keys[0], _twilio_text(url, draft.body if form else b""), "sha1")
    return {"i-twilio-idempotency-token": draft.id, "x-twilio-signature": base64.b64encode(signature).decode()}


def _names(*names: str) -> Any:
    return lambda _options: names


STRIPE = Verifier(
    "stripe",
    "Stripe's Stripe-Signature",
    StripeOptions,
    check_stripe,
    keys=utf8_keys,
    secret_headers=_names("stripe-signature"),
    named=_named_by_stripe,
    sign=_sign_stripe,
)
SLACK = Verifier(
    "slack",
    "Slack's X-Slack-Signature, with the URL challenge",
    SlackOptions,
    check_slack,
    keys=utf8_keys,
    secret_headers=_names("x-slack-signature"),
    named=_named_by_slack,
    handshake=_slack_challenge,
    sign=_sign_slack,
)
SHOPIFY = Verifier(
    "shopify",
    "Shopify's X-Shopify-Hmac-Sha256",
    ShopifyOptions,
    check_shopify,
    keys=utf8_keys,
    secret_headers=_names("x-shopify-hmac-sha256"),
    named=_named_by_shopify,
    sign=_sign_shopify,
)
TWILIO = Verifier(
    "twilio",
    "Twilio's X-Twilio-Signature over URL and form",
    TwilioOptions,
    check_twilio,
    keys=utf8_keys,
    secret_headers=_names("x-twilio-signature"),
    named=_named_by_twilio,
    sign=_sign_twilio,
)
