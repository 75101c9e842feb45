"""The wire between the members and PostgreSQL, which can lose the answer to a commit: who knows what became of it?

Bytes are passed on as they come. While answers are to be lost, a `COMMIT` that ends a transaction of some size is
passed on, its answer is waited for, and the connection is cut instead of giving it back. With `silent`, nobody can ask
for it either, until `lose` is called again: nothing passes.
"""

import asyncio
import contextlib

from tests.campaigns._kafka_store import DATABASE

_SOME_SIZE = 1500  # bytes that the client sent since the commit before: those of events, not of a lease
_CHUNK = 1 << 16
_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Listens on a free loopback port. `to_lose` is how many answers are still to be lost, `lost` how many were."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent = False  # nothing passes after an answer that is lost
        self._down = False
        self.to_lose = 0
        self.lost = 0
        self.url = ""

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}/{DATABASE}"

    async def close(self) -> None:
        """Stop listening, cut what is left."""
        if self._server is not None:
            self._server.close()
        self._cut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def lose(self, answers: int, *, silent: bool = False) -> None:
        """Lose so many answers to commits from now on; after one that is lost, `silent` lets nothing pass."""
        self.to_lose, self._silent, self._down = answers, silent, False

    def lost_one(self) -> None:
        """Note that nobody will hear of a commit."""
        self.lost += 1
        if self._silent:
            self._down = True
            self._cut()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            if not self._down:
                there, here = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await self._pass((reader, writer), (there, here))
                finally:
                    here.transport.abort()
        except OSError:
            pass  # the server is away
        finally:
            writer.transport.abort()
            self._passing.discard(task)

    async def _pass(self, client: _End, server: _End) -> None:
        """Pass bytes between both ends until one of them goes."""
        there, back = Line(self, client[0], server[1]), Line(self, server[0], client[1])
        there.answers = back
        mine = {client[1], server[1]}
        self._writers |= mine
        ways = [asyncio.ensure_future(line.run()) for line in (there, back)]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._writers -= mine


class Line:
    """One direction of a connection. `answers` is the other one, of the direction from the client."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire = wire
        self._reader = reader
        self._writer = writer
        self._since = 0
        self.answers: Line | None = None
        self.cut = False

    async def run(self) -> None:
        """Pass bytes on until either end goes, or an answer is lost."""
        with contextlib.suppress(ConnectionError):
            while chunk := await self._reader.read(_CHUNK):
                if self.cut:
                    self._wire.lost_one()
                    return
                if self.answers is not None:
                    self._since += len(chunk)
                    if b"COMMIT\0" in chunk:
                        if self._wire.to_lose and self._since >= _SOME_SIZE:
                            self._wire.to_lose -= 1
                            self.answers.cut = True
                        self._since = 0
                self._writer.write(chunk)
                await self._writer.drain()
