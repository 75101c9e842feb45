"""Senders of webhooks for tests: each signs as its provider documents it, without any code of ours.

Keys of RSA and elliptic curves are made once per process.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509.oid import NameOID

from sensors.ports import Unavailable
from sensors.sensor import Request
from sensors.testing import make_request

NOW = 1_800_000_000
TOPIC = "arn:aws:sns:eu-north-1:123456789012:landing"
CERTIFICATE_URL = "https://sns.eu-north-1.amazonaws.com/SimpleNotificationService-" + "0a" * 16 + ".pem"
SUBSCRIBE_URL = "https://sns.eu-north-1.amazonaws.com/?Action=ConfirmSubscription&Token=t0"
ISSUER = "https://issuer.example.com"

Headers = Mapping[str, str | Sequence[str]]


def posted(body: bytes, headers: Headers, seconds: int = NOW, **more: Any) -> Request:
    """Return a request that arrives at a moment."""
    return make_request(body, headers, received_at=seconds * 1_000_000, **more)


@lru_cache
def _rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def rsa_key(name: str = "one") -> rsa.RSAPrivateKey:
    """Return a private key by name."""
    return _rsa_key(name)


def ed_key(name: str = "one") -> ed25519.Ed25519PrivateKey:
    """Return a private key by name."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def whpk(name: str = "one") -> str:
    """Return the public key of Standard Webhooks' v1a."""
    return "whpk_" + base64.b64encode(ed_key(name).public_key().public_bytes_raw()).decode()


def certificate(name: str = "one", start: int = NOW - 86_400, days: int = 365) -> bytes:
    """Return a self-signed certificate in PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = datetime.fromtimestamp(start, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(rsa_key(name).public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .sign(rsa_key(name), SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def public_pem(name: str = "one") -> str:
    """Return a public key in PEM."""
    return (
        rsa_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def jwks(**names: str) -> bytes:
    """Return a key set: key ids and the names of their keys."""
    entries = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key())), "kid": kid, "use": "sig"}
        for kid, name in names.items()
    ]
    return json.dumps({"keys": entries}).encode()


def token(seconds: int = NOW, key: Any = None, algorithm: str = "RS256", kid: str | None = None, **claims: Any) -> str:
    """Return a token that is good for five minutes."""
    payload = {"iss": ISSUER, "aud": "tidegate", "iat": seconds, "exp": seconds + 300, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key or rsa_key(), algorithm=algorithm, headers={"kid": kid} if kid else None)


def fetcher(
    pages: Mapping[str, bytes], asked: list[str] | None = None, away: Sequence[str] = ()
) -> Callable[[str], Awaitable[bytes]]:
    """Return a fetch that knows these pages. Those `away` cannot be reached; at all others is nothing."""

    async def fetch(url: str) -> bytes:
        if asked is not None:
            asked.append(url)
        if url in away:
            raise Unavailable(f"{url} cannot be reached")
        if url not in pages:
            raise LookupError(f"{url} was answered 404")
        return pages[url]

    return fetch


# -- what providers send ----------------------------------------------------------------------------------------------
def hub(body: bytes, seconds: int, secret: bytes = b"secret") -> Request:
    """GitHub."""
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "d-1", "x-github-event": "push"}
    return posted(body, headers, seconds)


def standard(body: bytes, seconds: int, secret: bytes = b"k" * 24, **more: str) -> Request:
    """Standard Webhooks, v1."""
    signed = b".".join((b"msg_1", str(seconds).encode(), body))
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(seconds), "webhook-signature": f"v1,{signature}"}
    return posted(body, {**headers, **{name.replace("_", "-"): text for name, text in more.items()}}, seconds)


def standard_ed(body: bytes, seconds: int, name: str = "one") -> Request:
    """Standard Webhooks, v1a."""
    signature = ed_key(name).sign(b".".join((b"msg_1", str(seconds).encode(), body)))
    text = "v1a," + base64.b64encode(signature).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(seconds), "webhook-signature": text}
    return posted(body, headers, seconds)


def stripe(body: bytes, seconds: int, secret: bytes = b"whsec_one") -> Request:
    """Stripe."""
    signature = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return posted(body, {"stripe-signature": f"t={seconds},v0=ffff,v1={signature}"}, seconds)


def slack(body: bytes, seconds: int, secret: bytes = b"secret") -> Request:
    """Slack."""
    signature = "v0=" + hmac.new(secret, f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
    return posted(body, {"x-slack-request-timestamp": str(seconds), "x-slack-signature": signature}, seconds)


def shopify(body: bytes, seconds: int, secret: bytes = b"secret") -> Request:
    """Shopify."""
    signature = base64.b64encode(hmac.new(secret, body, hashlib.sha256).digest()).decode()
    headers = {"x-shopify-hmac-sha256": signature, "x-shopify-topic": "orders/create", "x-shopify-event-id": "e-1"}
    return posted(body, headers, seconds)


def twilio(body: bytes, seconds: int, secret: bytes = b"secret") -> Request:
    """Twilio, with another body than a form: the hash of it stands in the URL."""
    query = "bodySHA256=" + hashlib.sha256(body).hexdigest()
    url = f"https://hooks.example.com/hooks/test?{query}"
    signature = base64.b64encode(hmac.new(secret, url.encode(), hashlib.sha1).digest()).decode()
    headers = {"x-twilio-signature": signature, "i-twilio-idempotency-token": "i-1"}
    return posted(body, headers, seconds, query=query)


def twilio_form(body: bytes, signature: str, url: str) -> Request:
    """A form as Twilio documents it, with a given signature."""
    path, _, query = url.removeprefix("https://mycompany.com").partition("?")
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return posted(body, headers, path=path, query=query)


def sns(inner: bytes, seconds: int, name: str = "one", version: str = "2", **fields: Any) -> Request:
    """Amazon SNS: a notification, unless `Type` says otherwise."""
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    message: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": inner.decode(),
        "Timestamp": moment,
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    message = {name: value for name, value in message.items() if value is not None}
    if message["Type"] == "Notification":
        order = [
            "Message",
            "MessageId",
            *(["Subject"] if "Subject" in message else []),
            "Timestamp",
            "TopicArn",
            "Type",
        ]
    else:
        order = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{field}\n{message[field]}\n" for field in order)
    signature = rsa_key(name).sign(text.encode(), padding.PKCS1v15(), SHA1() if version == "1" else SHA256())
    message.setdefault("Signature", base64.b64encode(signature).decode())
    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": message["Type"]}
    return posted(json.dumps(message).encode(), headers, seconds)
