"""Runs as they change, as server-sent events.

One watcher polls the store's reader while anybody listens, and tells every listener what is new: runs that appeared and
runs whose state changed, oldest first. It looks at the newest 200 runs and at those it has seen unfinished; what
changed between two looks is told once, as it stands. A listener that does not keep up is cut off, and reads the list
again.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from sensors.clock import Clock, SystemClock
from sensors.ports import Unavailable
from tidegate.api.house import House
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError
from tidegate.api.views_runs import run_row, run_value_row
from tidegate.store.reader import Reader, Row

router = APIRouter(prefix="/api/v1", tags=["runs"])
MAX_LISTENERS = 64
_NEWEST = 200
_FOLLOWED = 1000
_QUEUE = 1000
_HEARTBEAT = 15.0
_FINAL = frozenset({"succeeded", "failed", "cancelled"})
_log = logging.getLogger("tidegate.api")

Listener = asyncio.Queue[bytes | None]


class RunWatcher:
    """Tells listeners about runs. Looks every `every` seconds while there are any."""

    def __init__(self, house: House, clock: Clock | None = None, every: float = 1.0) -> None:
        self._house = house
        self._clock = clock or SystemClock()
        self._every = every
        self._listeners: set[Listener] = set()
        self._states: OrderedDict[str, str] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def listen(self) -> Listener:
        """Begin to listen. Raises 429 when too many do, 503 when the service is stopping."""
        if self._closed:
            raise Unavailable("the service is stopping")
        if len(self._listeners) >= MAX_LISTENERS:
            raise ApiError(429, f"{MAX_LISTENERS} listen already; try again later", headers={"Retry-After": "30"})
        listener: Listener = asyncio.Queue(_QUEUE)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._states.clear()
            self._task = asyncio.create_task(self._watch(), name="run watcher")
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening; the last one ends the looking."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """End all streams, and take no more."""
        self._closed = True
        for listener in list(self._listeners):
            self._cut(listener)
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        first = True
        while True:
            try:
                changed = await self._house.store.read(self._look)
            except Unavailable as error:
                _log.debug("the stream of runs waits for the store: %s", error)
            else:
                if not first:
                    self._tell(changed)
                first = False
            await self._clock.sleep(self._every)

    def _look(self, reader: Reader) -> list[tuple[str, bytes]]:
        """Return what changed since the last look, as (state, message). Runs on a reader's thread, one at a time."""
        rows: dict[str, Row] = {row["uid"]: row for row in reversed(reader.runs(limit=_NEWEST)[0])}
        changed = []
        for uid in [uid for uid, state in self._states.items() if state not in _FINAL and uid not in rows]:
            run = reader.run(uid)
            if run is None:
                del self._states[uid]
            elif self._note(uid, str(run.state)):
                changed.append((str(run.state), _message(run_value_row(run).model_dump_json())))
        for uid, row in rows.items():
            if self._note(uid, row["state"]):
                changed.append((row["state"], _message(run_row(row).model_dump_json())))
        while len(self._states) > _FOLLOWED:
            self._states.popitem(last=False)
        return changed

    def _note(self, uid: str, state: str) -> bool:
        known = self._states.get(uid)
        self._states[uid] = state
        return known != state

    def _tell(self, changed: list[tuple[str, bytes]]) -> None:
        for listener in list(self._listeners):
            for _, message in changed:
                try:
                    listener.put_nowait(message)
                except asyncio.QueueFull:
                    self._cut(listener)
                    break

    def _cut(self, listener: Listener) -> None:
        """End one stream: what it did not read is dropped."""
        self._listeners.discard(listener)
        while not listener.empty():
            listener.get_nowait()
        listener.put_nowait(None)


def _message(json: str) -> bytes:
    return f"event: run\ndata: {json}\n\n".encode()


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events named `run`."},
        **problems(),
    },
    summary="Follow runs as they change",
)
async def stream(request: Request) -> StreamingResponse:
    """Send every run that appears or changes its state, as server-sent events named `run` with a run as JSON."""
    watcher: RunWatcher = request.app.state.watcher
    listener = watcher.listen()
    return StreamingResponse(
        _messages(watcher, listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _messages(watcher: RunWatcher, listener: Listener) -> AsyncIterator[bytes]:
    try:
        yield b": tidegate\nretry: 2000\n\n"
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT):
                    message = await listener.get()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if message is None:
                return
            yield message
    finally:
        watcher.leave(listener)
