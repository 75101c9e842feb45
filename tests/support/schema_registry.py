"""A schema registry in this process: it speaks what the client library asks of Confluent's API."""

import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.http_sink import http_sink


@dataclass
class FakeRegistry:
    """Schemas by number. `status`, when set, is what every request is answered with; `asked` are paths."""

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, int], int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int | None = None
    login: tuple[str, str] | None = None

    def add(self, number: int, kind: str, schema: str, references: Sequence[tuple[str, str, int]] = ()) -> None:
        """Keep a schema; `references` are (name, subject, version)."""
        named = [{"name": name, "subject": subject, "version": version} for name, subject, version in references]
        self.schemas[number] = {"schema": schema, "schemaType": kind, "references": named}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the registry does."""
        self.asked.append(request.path)
        if self.status is not None:
            return web.json_response({"error_code": self.status, "message": "as told"}, status=self.status)
        if self.login is not None and request.headers.get("authorization") != _basic(*self.login):
            return web.json_response({"error_code": 40101, "message": "Unauthorized"}, status=401)
        parts = request.path.strip("/").split("/")
        number = int(parts[2]) if parts[:2] == ["schemas", "ids"] else self.versions.get((parts[1], int(parts[3])), -1)
        found = self.schemas.get(number)
        if found is None:
            return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)
        return web.json_response({**found, "id": number, "subject": parts[1], "version": 1})


@contextlib.asynccontextmanager
async def schema_registry() -> AsyncIterator[FakeRegistry]:
    """Run one."""
    registry = FakeRegistry()
    async with http_sink(registry.answer) as sink:
        registry.url = sink.url
        yield registry


def _basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def framed(number: int, payload: bytes) -> bytes:
    """Return a value in the frame of the registry's serializers."""
    return b"\0" + number.to_bytes(4, "big") + payload


def descriptor(file: Any) -> str:
    """Return a protobuf file as the registry gives it with `format=serialized`."""
    return base64.b64encode(file.SerializeToString()).decode()
