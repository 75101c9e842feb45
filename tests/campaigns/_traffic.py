"""What happens around the service: senders that retry until they are answered, files that drop, a sink that counts.

Everything runs on the campaign's own loop, so one clock orders it. A sender never gives an event up: what was not
acknowledged is sent again, with the same id, to whichever process answers.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from pathlib import Path

from tests.campaigns._history import Ack, Drop, History, Hit
from tests.campaigns._house import HOOK, signature

KINDS = ("call",) * 12 + ("none",) * 4 + ("chain",) * 3 + ("worker",)
_PATIENCE = 6.0


class Sink(asyncio.Protocol):
    """One connection of the sink. Every complete request is noted at once and answered when `answer_after` says."""

    def __init__(self, traffic: "Traffic") -> None:
        self._traffic = traffic
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._life = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note which process is calling."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._traffic.connections.add(transport)
        self._life = self._traffic.caller(transport.get_extra_info("peername")[1])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._transport is not None:
            self._traffic.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """Note every complete request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            headers = dict(
                line.lower().split(b": ", 1) for line in self._buffer[:end].split(b"\r\n")[1:] if b": " in line
            )
            length = int(headers.get(b"content-length", b"0"))
            if len(self._buffer) < end + 4 + length:
                return
            body = json.loads(self._buffer[end + 4 : end + 4 + length])
            self._buffer = self._buffer[end + 4 + length :]
            key = headers.get(b"idempotency-key", b"").decode()
            self._traffic.noted(Hit(body["kind"], body["key"], key, self._life, time.time()))
            asyncio.get_running_loop().call_later(self._traffic.answer_after(), self._answer)

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")


class Traffic:
    """The load and the sink. `targets` maps the lives that may be posted to, to their ports."""

    def __init__(self, history: History, folder: Path, rng: random.Random, *, rate: float = 160.0) -> None:
        self.history = history
        self.targets: dict[int, int] = {}
        self.pids: dict[int, int] = {}
        self.workers = False  # whether programs and functions are among what is asked for
        self.slow = False  # whether the sink keeps some callers waiting for longer than a lease
        self.fresh = True  # whether anything new is sent
        self.sink_port = 0
        self.connections: set[asyncio.WriteTransport] = set()
        self._folder = folder / "drops"
        self._rng = rng
        self._rate = rate
        self._n = 0
        self._retries: deque[tuple[str, bytes]] = deque()
        self._under_way: set[str] = set()
        self._overwritable: deque[str] = deque()
        self._unseen: set[str] = set()
        self._versions: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, senders: int = 16) -> None:
        """Start the sink, the senders and the dropping of files."""
        self._folder.mkdir()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Sink(self), "127.0.0.1", 0, backlog=512)
        self.sink_port = self._server.sockets[0].getsockname()[1]
        self._tasks = [loop.create_task(self._send(senders)) for _ in range(senders)]
        self._tasks.append(loop.create_task(self._drop()))

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for transport in list(self.connections):
            transport.abort()
        await asyncio.sleep(0.05)  # transports close in a turn of the loop of their own

    @property
    def unanswered(self) -> list[str]:
        """Return the ids of events that no process acknowledged yet."""
        return [*(id_ for id_, _ in self._retries), *self._under_way]

    # -- the sink -----------------------------------------------------------------------------------------------------
    def caller(self, port: int) -> int:
        """Return the life that calls from a port; with one process alive it can only be that one."""
        if len(self.pids) == 1:
            return next(iter(self.pids))
        owner = _owner(port, self.pids)
        return owner if owner is not None else max(self.pids, default=0)

    def noted(self, hit: Hit) -> None:
        """Keep a request; a file that was seen may be written anew."""
        self.history.hits.append(hit)
        if hit.kind == "file" and hit.key in self._unseen:
            self._unseen.discard(hit.key)
            self._overwritable.append(hit.key.rpartition("/")[0])

    def answer_after(self) -> float:
        """Return how long the sink takes to answer, in seconds."""
        chance = self._rng.random()
        if self.slow and chance < 0.3:
            return 1.0 + 4 * self._rng.random()
        return 0.0 if chance < 0.7 else 0.15 * self._rng.random()

    # -- webhooks -----------------------------------------------------------------------------------------------------
    def _next(self) -> tuple[str, bytes] | None:
        if self._retries:
            return self._retries.popleft()
        if not self.fresh:
            return None
        n = self._n
        self._n += 1
        kind = KINDS[n % len(KINDS)]
        if kind == "worker":
            kind = ("command", "python")[n // len(KINDS) % 2] if self.workers else "none"
        key = f"k{n - n % 2 if kind == 'call' else n}"  # two events of a call share a key
        id_ = f"w{n}"
        for asked in {"call": ("call",), "chain": ("first", "second", "after")}.get(kind, ()):
            self.history.wanted.setdefault((asked, key), []).append(id_)
        return id_, json.dumps({"id": id_, "kind": kind, "key": key}).encode()

    async def _send(self, senders: int) -> None:
        connection: tuple[int, asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            await asyncio.sleep(self._rng.random() * 2 * senders / self._rate)
            if not self.targets:
                continue
            item = self._next()
            if item is None:
                continue
            id_, body = item
            life = self._rng.choice(list(self.targets))
            self._under_way.add(id_)
            answered = False
            try:
                if connection is None or connection[0] != life:
                    if connection is not None:
                        self._drop_connection(connection[2])
                    connection = None
                    async with asyncio.timeout(_PATIENCE):
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.targets[life])
                    self.connections.add(writer.transport)
                    connection = (life, reader, writer)
                answered = await self._post(connection, id_, body)
            except (OSError, EOFError, TimeoutError, KeyError, ValueError):
                if connection is not None:
                    self._drop_connection(connection[2])
                connection = None
            finally:
                self._under_way.discard(id_)
                if not answered:
                    self._retries.append(item)
            if not answered:
                await asyncio.sleep(0.02 + 0.05 * self._rng.random())

    def _drop_connection(self, writer: asyncio.StreamWriter) -> None:
        self.connections.discard(writer.transport)
        writer.transport.abort()

    async def _post(
        self, connection: tuple[int, asyncio.StreamReader, asyncio.StreamWriter], id_: str, body: bytes
    ) -> bool:
        life, reader, writer = connection
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nx-signature: %s\r\n"
            b"content-length: %d\r\n\r\n%s" % (HOOK.encode(), signature(body).encode(), len(body), body)
        )
        async with asyncio.timeout(_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answer = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 202"):
            return False
        receipt = json.loads(answer)["events"][0]
        self.history.acks.append(Ack(id_, receipt["event"], life, time.time(), receipt["duplicate"]))
        return True

    # -- files --------------------------------------------------------------------------------------------------------
    async def _drop(self) -> None:
        """Drop a file now and then, whether or not a process lives; some are new versions of one that was seen."""
        n = 0
        while True:
            await asyncio.sleep(0.05 + 0.25 * self._rng.random())
            if not self.fresh:
                continue
            if self._overwritable and self._rng.random() < 0.25:
                name = self._overwritable.popleft()
            else:
                name = f"f{n}.csv"
                n += 1
            version = self._versions.get(name, 0) + 1
            self._versions[name] = version
            size = 10 + version
            temporary = self._folder / f"{name}.part"
            temporary.write_bytes(b"x" * size)
            temporary.replace(self._folder / name)
            self.history.drops.append(Drop(name, size, time.time()))
            self._unseen.add(f"{name}/{size}")
            self.history.wanted[("file", f"{name}/{size}")] = [name]


def _owner(port: int, pids: dict[int, int]) -> int | None:
    """Return the life whose process has a socket with this local port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for life, pid in pids.items():
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return life
    return None
