"""Lines of a child's standard output or error, as they come.

In flow bytes of a pipe, out flow lines of text: without their end, decoded with replacement characters, cut into
pieces of at most `MAX_PIECE` bytes, in order. Every line reaches whoever follows the pipe at that time. A mark (bytes
that only we know) at the end of a line is taken out and reported instead: all that was written before it has then been
handed on.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

MAX_PIECE = 8000
LAST_LINES = 10


class LinePipe(asyncio.Protocol):
    """The reading end of one pipe. `follow` sets who gets lines; `last` are the most recent ones since then.

    `tap` gets the bytes as they come.
    """

    def __init__(self, line: Callable[[str], None] | None = None, tap: Callable[[bytes], None] | None = None) -> None:
        self._line = line
        self._tap = tap
        self._rest = bytearray()
        self._mark: bytes | None = None
        self._came: asyncio.Event | None = None  # somebody waits for the mark
        self._transport: asyncio.BaseTransport | None = None
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.closed = asyncio.Event()

    def follow(self, line: Callable[[str], None] | None) -> None:
        """Hand lines to `line` from now on; None drops them."""
        self._line = line
        self.last.clear()

    def expect(self, mark: bytes) -> None:
        """Take `mark` at the end of a line for the end of what is followed now."""
        self._mark, self._came = mark, None

    @property
    def expects(self) -> bool:
        """Say whether a mark is still to come."""
        return self._mark is not None

    async def mark_came(self) -> None:
        """Wait for the mark that is expected."""
        if self._mark is not None:
            self._came = asyncio.Event()
            await self._came.wait()

    def end(self) -> None:
        """End the last line, where the writer has seen that all before it was read: no mark will come."""
        self._mark = None
        if self._rest:
            self._emit(bytes(self._rest))
            self._rest.clear()

    def close(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._tap is not None:
            self._tap(data)
        rest = self._rest
        rest += data
        if b"\n" in data:
            *lines, tail = bytes(rest).split(b"\n")
            rest[:] = tail
            for line in lines:
                self._take(line)
        while len(rest) > 2 * MAX_PIECE:  # twice, so that a mark behind a long line is never cut
            cut = _boundary(rest, MAX_PIECE)
            self._emit(bytes(rest[:cut]))
            del rest[:cut]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._take(bytes(self._rest))
            self._rest.clear()
        self.closed.set()

    def _take(self, line: bytes) -> None:
        mark = self._mark
        if mark is not None and line.endswith(mark):
            self._mark = None
            line = line[: -len(mark)]
            if line:
                self._emit(line)
            if self._came is not None:
                self._came.set()
            return
        self._emit(line)

    def _emit(self, line: bytes) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        while True:
            cut = _boundary(line, MAX_PIECE)
            text = line[:cut].decode("utf-8", "replace")
            self.last.append(text)
            if self._line is not None:
                self._line(text)
            line = line[cut:]
            if not line:
                return


def _boundary(data: bytes | bytearray, most: int) -> int:
    """Return where to cut off a piece of at most `most` bytes without cutting a UTF-8 character."""
    if len(data) <= most:
        return len(data)
    for cut in range(most, most - 4, -1):
        if data[cut] & 0xC0 != 0x80:
            return cut
    return most


async def read_lines(
    fd: int, line: Callable[[str], None] | None = None, tap: Callable[[bytes], None] | None = None
) -> LinePipe:
    """Start reading the pipe `fd`, which belongs to the reader from this call on, whether or not it is cancelled."""
    pipe = os.fdopen(fd, "rb", 0)
    connecting = asyncio.ensure_future(asyncio.get_running_loop().connect_read_pipe(lambda: LinePipe(line, tap), pipe))
    try:
        # Cancelled half-way, uvloop closes the descriptor behind the file object's back: a second close by anyone would
        # hit whatever has got its number by then.
        _, protocol = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_let_go)
        raise
    except BaseException:
        pipe.close()
        raise
    return protocol


def _let_go(connecting: "asyncio.Task[tuple[asyncio.ReadTransport, LinePipe]]") -> None:
    """Close a pipe that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[0].close()
