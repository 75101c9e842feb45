"""A whole service in this process: composed from YAML, asked as a server would; nothing is faked but the socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from config.load import load_config
from config.model import ServiceConfig
from tidegate.api.door import Door
from tidegate.api.webhooks import Webhooks
from tidegate.compose import compose
from tidegate.failpoints import FailPoint, pass_by
from tidegate.service import Service
from tidegate.store.reader import Row

HANG_UP = object()  # a chunk after which the sender is gone


@dataclass(frozen=True)
class Answer:
    """What came back; `status` is 0 when nobody was there to answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Running:
    """A running service."""

    service: Service
    webhooks: Webhooks
    door: Door

    async def post(
        self,
        path: str = "/hooks/in",
        body: bytes | Iterable[Any] = b"{}",
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        query: str = "",
        client: str = "127.0.0.1",
        wait: Callable[[], Any] | None = None,
    ) -> Answer:
        """Send a request; a body of several parts is chunked. `wait` is awaited instead of the part `None`."""
        parts: list[Any] = [body] if isinstance(body, bytes) else list(body)
        given = {"content-type": "application/json", **(headers or {})}
        if isinstance(body, bytes):
            given.setdefault("content-length", str(len(body)))
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            part = parts.pop(0) if parts else HANG_UP
            if part is None:
                await (wait() if wait is not None else asyncio.Event().wait())
                part = parts.pop(0) if parts else HANG_UP
            if part is HANG_UP:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), text.encode("latin-1")) for name, text in given.items()],
            "client": (client, 50_000),
            "server": ("127.0.0.1", 8080),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }
        await self.door.public(scope, receive, send)
        if not sent:
            return Answer(0)
        names = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, sent[1]["body"])

    async def runs(self, **wanted: Any) -> list[Row]:
        """Return runs, oldest first."""
        rows, _ = await self.service.store.read(lambda reader: reader.runs(limit=1_000, **wanted))
        return sorted(rows, key=lambda row: int(row["seq"]))

    async def events(self, **wanted: Any) -> list[Row]:
        """Return events, oldest first."""
        found: list[Row] = []
        cursor: str | None = None
        while True:
            at = cursor
            rows, cursor = await self.service.store.read(
                lambda reader, at=at: reader.events(limit=1_000, cursor=at, **wanted)  # type: ignore[misc]
            )
            found.extend(rows)
            if cursor is None:
                return found[::-1]

    async def until_events(self, condition: Callable[[list[Row]], bool], seconds: float = 15.0) -> list[Row]:
        """Return the events as soon as they are as wanted."""
        async with asyncio.timeout(seconds):
            while not condition(rows := await self.events()):
                await asyncio.sleep(0.01)
        return rows

    async def decisions(self, **wanted: Any) -> list[Row]:
        rows, _ = await self.service.store.read(lambda reader: reader.decisions(limit=1_000, **wanted))
        return sorted(rows, key=lambda row: (row["at"], row["uid"]))

    async def until_runs(self, condition: Callable[[list[Row]], bool], seconds: float = 15.0) -> list[Row]:
        """Return the runs as soon as they are as wanted."""
        rows: list[Row] = []
        try:
            async with asyncio.timeout(seconds):
                while not condition(rows := await self.runs()):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"the runs did not become so: {rows}") from None
        return rows

    async def finished(self, count: int, seconds: float = 15.0) -> list[Row]:
        """Return the runs when there are so many and all are final."""
        return await self.until_runs(
            lambda rows: (
                len(rows) == count and all(row["state"] in ("succeeded", "failed", "cancelled") for row in rows)
            ),
            seconds,
        )


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until a condition that others bring about holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def load(folder: Path, text: str, *, store: str | None = None, **changes: Any) -> ServiceConfig:
    """Read a configuration as `tidegate serve` does. `store` may be one that YAML does not offer, such as memory."""

    def read() -> ServiceConfig:
        path = folder / "tidegate.yaml"
        path.write_text(text)
        return load_config([path], environ={})

    config = await asyncio.to_thread(read)
    return replace(config, store=config.store if store is None else store, **changes)


@asynccontextmanager
async def running(
    config: ServiceConfig, *, fail_point: FailPoint = pass_by, patience: float = 5.0
) -> AsyncIterator[Running]:
    """Run a service; it is stopped softly at the end."""
    service, webhooks = await compose(config, "9.9.9", fail_point)
    try:
        yield Running(service, webhooks, Door(service, webhooks))
    finally:
        await service.stop(patience)
