"""The first line of the doors: bounds on what comes before a request's headers are complete.

Everything later (size of headers and body, the body's time) is judged by the applications; but those are asked only
when the headers are there, so that a sender who never ends them would hold memory and a connection for ever. Here such
a connection is closed: after `seconds`, or beyond `most` bytes.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.model import Limits

_SPARE = 64 * 1024  # bytes beyond the cap that the doors judge themselves, with an answer that says so


def wire(limits: Limits) -> Callable[..., asyncio.Protocol]:
    """Return what makes the protocol of each connection, for `uvicorn.Config(http=…)`."""
    return partial(BoundedHttp, seconds=limits.read_timeout, most=2 * limits.header_bytes + _SPARE)


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, seconds: float, most: int, **named: Any) -> None:
        self._seconds = seconds
        self._most = most
        self._head = 0  # bytes of a head that is not complete
        self._expecting = True  # no head is complete since the last request ended
        self._begun = False  # a head has begun
        self._ended = False  # a request ended in the part in hand
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(*arguments, **named)

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part; close the connection when its head becomes too long."""
        self._ended = False
        super().data_received(data)
        if self._begun or (self._expecting and not self._ended):
            self._head += len(data)
            if self._head > self._most:
                self._calm()
                if not self.transport.is_closing():
                    self.send_400_response("The request's headers are too long.")
            elif self._timer is None:
                self._wait()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._begun = self._expecting = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete: from here on the applications judge."""
        self._begun = self._expecting = False
        self._head = 0
        self._calm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete; what comes next is a head."""
        self._expecting = self._ended = True
        super().on_message_complete()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self._seconds, self._late)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
