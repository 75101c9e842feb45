"""A pod's log, followed to its end: lines in order, each once, across broken connections.

In flow the API's log stream with its time stamps; out flow lines. After a break it is asked again from the last stamp
on, and what had come with that very stamp is passed over by its count.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from pipelines.errors import Ambiguous, TaskFailed
from pipelines.kubernetes_api import Cluster, Missing
from pipelines.kubernetes_jobs import CONTAINER
from sensors.clock import Clock

AGAIN: Final = 1.0  # seconds between two connections
MAX_LINE: Final = 1_048_576


class PodLog:
    """Follows one container. `follow` ends when the container has."""

    def __init__(
        self, cluster: Cluster, path: str, clock: Clock, take: Callable[[str], None], complain: Callable[[str], None]
    ) -> None:
        """`path` is the pod's in the API; `take` gets every line, `complain` why there are none."""
        self._complain = complain
        self._cluster = cluster
        self._path = f"{path}/log"
        self._clock = clock
        self._take = take
        self._stamp = ""
        self._at_stamp = 0
        self.ended = asyncio.Event()

    async def follow(self) -> None:
        """Read until the log ends; a pod that does not run yet is waited for, one that is gone has ended."""
        while True:
            try:
                await self._once()
            except Missing:
                break
            except (Ambiguous, TaskFailed) as error:  # a break, or 400: not started yet. What matters the Job says
                if isinstance(error, TaskFailed) and error.kind == "forbidden":
                    self._complain(f"its log cannot be read: {error}")
                    break
                await self._clock.sleep(AGAIN)
                continue
            break
        self.ended.set()

    async def _once(self) -> None:
        query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
        known: int | None = None  # lines of the last stamp that are here already; None: past them
        if self._stamp:
            query["sinceTime"] = self._stamp
            known = self._at_stamp
        rest = bytearray()
        async with self._cluster.stream(self._path, query) as pieces:
            async for piece in pieces:
                rest += piece
                *lines, tail = rest.split(b"\n")
                rest = bytearray(tail[:MAX_LINE])
                for line in lines:
                    known = self._line(bytes(line), known)
        if rest:
            self._line(bytes(rest), known)

    def _line(self, line: bytes, known: int | None) -> int | None:
        """Take one line unless it is here already; return what `known` is for the next."""
        stamp, _, text = line.decode("utf-8", "replace").partition(" ")
        if known is not None:
            if stamp < self._stamp:  # the API counts whole seconds: it goes back further than asked
                return known
            if stamp == self._stamp and known:
                return known - 1
        if stamp == self._stamp:
            self._at_stamp += 1
        else:
            self._stamp, self._at_stamp = stamp, 1
        self._take(text)
        return None
