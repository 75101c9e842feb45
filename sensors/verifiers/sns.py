"""The verifier `sns`: Amazon SNS signs a message in its body with a certificate that has to be fetched.

The certificate's address comes from the message, so it is believed only on SNS' own host of the topic's region, over
https, in the one form that such addresses have. Subscriptions to the topics that are listed are confirmed by a GET of
the address in the signed message, on the same host. Strangers cannot make us fetch without end: few certificates are
fetched at once and kept, and a message from a topic that is not listed is refused before anything is asked for.
"""

import asyncio
import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import Field, field_validator

from sensors.clock import Clock
from sensors.cloudevents import Envelope, parse_time
from sensors.errors import Refused
from sensors.ports import Unavailable
from sensors.sensor import Request
from sensors.units import Duration
from sensors.verifiers.model import Fetch, Forged, Keys, Named, Verifier, VerifyOptions, text_of

_CERTIFICATE: Final = re.compile(r"/SimpleNotificationService-[0-9a-zA-Z]{16,64}\.pem")
_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_KEPT: Final = 32  # certificates
_PATIENCE: Final = 10.0  # seconds after which one more fetch is allowed
_BURST: Final = 5

_TYPES: Final = ("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation")


class SnsOptions(VerifyOptions):
    """Messages of Amazon SNS. `topics` are those whose messages are taken and whose subscriptions are confirmed."""

    scheme: Literal["sns"]
    topics: tuple[str, ...] = Field(min_length=1, description="ARNs of the topics that may send here")
    versions: tuple[Literal["1", "2"], ...] = Field(
        ("1", "2"), min_length=1, description="signature versions that are taken; 1 is SHA-1, 2 SHA-256"
    )
    tolerance: Duration = Field(
        3600.0, gt=0, description="how old a message may be; SNS signs once and may retry for an hour"
    )

    @field_validator("topics")
    @classmethod
    def _are_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _TOPIC.fullmatch(text):
                raise ValueError(f"{text!r} is no topic; write its ARN, arn:aws:sns:REGION:ACCOUNT:NAME")
        return value


def signed_text(message: Mapping[str, Any]) -> bytes:
    """Return what SNS signs: names and values in a fixed order, each on a line of its own. Raises Forged."""
    names = _NOTIFICATION if message.get("Type") == "Notification" else _CONFIRMATION
    lines: list[str] = []
    for name in names:
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise Forged(f"{name} is missing")
        lines += (name, value)
    return ("\n".join(lines) + "\n").encode()


def check_message(message: Mapping[str, Any], certificate: bytes, options: SnsOptions, now: int) -> None:
    """Check a message's signature, topic and age against a certificate in PEM. Pure; raises Forged, or anything."""
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    from cryptography.x509 import load_pem_x509_certificate

    if message.get("TopicArn") not in options.topics:
        raise Forged("the topic is not among `topics`")
    version = message.get("SignatureVersion")
    if version not in options.versions:
        raise Forged("the signature's version is not among `versions`")
    loaded = load_pem_x509_certificate(certificate)
    moment = now / 1e6
    if not loaded.not_valid_before_utc.timestamp() <= moment <= loaded.not_valid_after_utc.timestamp():
        raise Forged("the certificate is not valid now")
    key = loaded.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise Forged("the certificate's key is not RSA")
    signature = base64.b64decode(str(message.get("Signature")), validate=True)
    key.verify(signature, signed_text(message), padding.PKCS1v15(), SHA1() if version == "1" else SHA256())  # noqa: S303 - version 1 is SHA-1
    if abs(now - parse_time(str(message.get("Timestamp")))) > options.tolerance * 1e6:
        raise Forged("the message's time is too far from our clock")


def sns_address(message: Mapping[str, Any], name: str, path: re.Pattern[str] | None = None) -> str:
    """Return an address in a message, on SNS' host of the topic's region, over https. Raises Forged for any other."""
    text = str(message.get(name))
    parts = urlsplit(text)
    partition, _, region = str(message.get("TopicArn")).removeprefix("arn:").partition(":sns:")
    host = f"sns.{region.partition(':')[0]}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"
    if (
        parts.scheme != "https"
        or parts.netloc != host
        or (path is not None and (not path.fullmatch(parts.path) or parts.query or parts.fragment))
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise Forged("an address in the message is not SNS'")
    return text


class SnsCertificates:
    """The certificates that were fetched, and the check with them (`sensors.verifiers.model.Live`)."""

    def __init__(self, options: SnsOptions, fetch: Fetch | None, clock: Clock) -> None:
        self._options = options
        self._fetch = fetch
        self._clock = clock
        self._certificates: dict[str, bytes] = {}
        self._allowed, self._since = float(_BURST), clock.monotonic()
        self._lock = asyncio.Lock()

    async def prepare(self, request: Request) -> None:
        """Fetch the certificate that the message names, unless it is known."""
        try:
            message = _message(request)
            if message.get("TopicArn") not in self._options.topics:
                return
            url = sns_address(message, "SigningCertURL", _CERTIFICATE)
        except Exception:  # noqa: BLE001 - whatever is wrong with the message, the check says so
            return
        async with self._lock:
            if url in self._certificates:
                return
            if not self._may_ask():
                raise Unavailable("too many certificates were asked for; the next may be fetched soon", _PATIENCE)
            try:
                found = await self._get(url)
            except LookupError:  # a certificate that is none of SNS': the check says so
                return
            while len(self._certificates) >= _KEPT:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[url] = found

    def check(self, request: Request) -> None:
        """Check the message with the certificate at hand."""
        message = _message(request)
        url = sns_address(message, "SigningCertURL", _CERTIFICATE)
        certificate = self._certificates.get(url)
        if certificate is None:
            raise Forged("the topic is not among `topics`, or its certificate is not at hand")
        check_message(message, certificate, self._options, request.received_at)
        kinds = request.headers.get("x-amz-sns-message-type")
        if kinds is not None and list(kinds) != [message["Type"]]:
            raise Forged("the header x-amz-sns-message-type says something else than the message")
        if message["Type"] == "SubscriptionConfirmation":
            sns_address(message, "SubscribeURL")

    async def confirm(self, request: Request) -> None:
        """Confirm the subscription that a verified message asks for."""
        message = _message(request)
        if message.get("Type") == "SubscriptionConfirmation":
            try:
                await self._get(sns_address(message, "SubscribeURL"))
            except LookupError as error:
                raise Refused(400, "unconfirmed", f"the subscription cannot be confirmed: {error}") from error

    async def _get(self, url: str) -> bytes:
        if self._fetch is None:
            raise Unavailable("nothing is fetched here")
        return await self._fetch(url)

    def _may_ask(self) -> bool:
        now = self._clock.monotonic()
        self._allowed = min(float(_BURST), self._allowed + (now - self._since) / _PATIENCE)
        self._since = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True


def _message(request: Request) -> Mapping[str, Any]:
    message = orjson.loads(request.body)
    if not isinstance(message, dict) or message.get("Type") not in _TYPES:
        raise Forged("this is no message of SNS")
    return message


def _unwrapped(message: Any) -> Envelope:
    """Return what the topic was told: the inner text, with its id, subject, time and attributes."""
    inner = message["Message"].encode()
    try:
        orjson.loads(inner)
        content_type = "application/json"
    except orjson.JSONDecodeError:
        content_type = "text/plain; charset=utf-8"
    kind = {"SubscriptionConfirmation": "subscribed", "UnsubscribeConfirmation": "unsubscribed"}
    subject = message.get("Subject")
    extensions: dict[str, str] = {}
    attributes = message.get("MessageAttributes")
    for name, value in list(attributes.items())[:64] if isinstance(attributes, dict) else ():
        text = value.get("Value") if isinstance(value, dict) else None
        if isinstance(text, str) and len(name) <= 256 and len(text) <= 4096:
            extensions[f"sns.{name}"] = text
    return Envelope(
        id=message["MessageId"],
        source=message["TopicArn"],
        type=f"sns.{kind.get(message['Type'], 'notification')}",
        subject=subject if isinstance(subject, str) and subject else None,
        time=parse_time(message["Timestamp"]),
        data=inner,
        content_type=content_type,
        extensions=extensions,
    )


def _named(_request: Request, document: Any) -> Named:
    return text_of(document.get("MessageId")) if isinstance(document, dict) else None, None


def _never(_request: Request, _keys: Keys, _options: SnsOptions, _now: int) -> None:
    raise Forged("the certificate is not at hand")


def _live(options: SnsOptions, fetch: Fetch | None, clock: Clock) -> SnsCertificates:
    return SnsCertificates(options, fetch, clock)


SNS = Verifier(
    "sns",
    "Amazon SNS: signed messages of listed topics; subscriptions to them are confirmed",
    SnsOptions,
    _never,
    named=_named,
    unwrap=_unwrapped,
    live=_live,
)
