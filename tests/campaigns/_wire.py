"""Raw HTTP for campaigns: bytes out, a status and a body back, or the fact that the other side hung up.

Nothing repairs what is sent: a request may be anything. Connections are kept as long as the answers allow it.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` 0: the connection was closed without an answer; -1: no answer came in time."""

    status: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Wire:
    """One connection at a time to a service; opened when it is needed."""

    def __init__(self, host: str, port: int, patience: float) -> None:
        self._host, self._port, self._patience = host, port, patience
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, *, hang_up: bool = False, alone: bool = False) -> Answer:
        """Send bytes and read one answer. `hang_up` closes instead of reading; `alone` uses the connection up."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await self._open()
                writer.write(request)
                if hang_up:
                    self.close()
                    return Answer(0, time.monotonic() - started)
                await writer.drain()
                if alone:
                    writer.write_eof()
                answer = await self._read(reader, started)
        except TimeoutError:
            self.close()
            return Answer(-1, time.monotonic() - started)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.close()
            return Answer(0, time.monotonic() - started)
        if alone or answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def _read(self, reader: asyncio.StreamReader, started: float) -> Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        status = int(head[9:12])
        body = await reader.readexactly(int(found[1])) if found and status != 204 else b""
        lines = head.decode("latin-1").split("\r\n")[1:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(status, time.monotonic() - started, headers, body)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
