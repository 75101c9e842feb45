"""An Azure endpoint that answers as a test tells it, for what no emulator produces; the real SDKs ask it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.http_sink import http_sink

EMPTY_PAGE: dict[str, list[Any]] = {"paths": []}


@dataclass
class FakeAzure:
    """Answers in turn `answers`, then `{"paths": []}` for ever."""

    answers: list[web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(
        default_factory=list
    )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if not self.answers:
            return web.json_response(EMPTY_PAGE)
        answer = self.answers.pop(0)
        return await answer(request) if callable(answer) else answer

    def serve(self) -> Any:
        """Return the context manager of the server."""
        return http_sink(self.handle)


def refusal(status: int, code: str, message: str = "No.", headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error as the Data Lake endpoint words it."""
    body = json.dumps({"error": {"code": code, "message": f"{message}\nRequestId:1\nTime:2"}})
    told = {"x-ms-error-code": code, **(headers or {})}
    return web.Response(status=status, text=body, content_type="application/json", headers=told)


def self_signed(folder: Path) -> Path:
    """Write a certificate and its key into one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = made.sign(key, hashes.SHA256())
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
