"""Calls under way in this process: what an engine that sends something from the service's loop keeps of its attempts.

In flow coroutines, each under a handle; out flow their results to whoever polls. A handle of another process means that
nobody knows what became of its call.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

from pipelines.errors import Ambiguous, TaskFailed
from pipelines.ports import TaskResult

_SECONDS = 5.0


class Calls:
    """The calls of one engine. `what` names one of them in messages, such as "request"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._calls: dict[str, asyncio.Task[TaskResult]] = {}
        self._numbers = itertools.count(1)

    def start(self, call: Coroutine[Any, Any, TaskResult]) -> str:
        """Begin a call; return its handle."""
        handle = str(next(self._numbers))
        self._calls[handle] = asyncio.get_running_loop().create_task(call)
        return handle

    async def result(self, handle: str) -> TaskResult:
        """Wait for the end of a call. Raises Ambiguous for one of a former process."""
        call = self._calls.get(handle)
        if call is None:
            raise Ambiguous(f"the {self._what} was sent by a process that is gone; whether it arrived is not known")
        try:
            return await call
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise TaskFailed(f"the {self._what} was cancelled", "cancelled", retryable=False) from None
        finally:
            if call.done():
                self._calls.pop(handle, None)

    async def cancel(self, handle: str) -> None:
        """Stop a call and wait until it is stopped; one that is gone is none."""
        call = self._calls.pop(handle, None)
        if call is not None:
            call.cancel()
            await asyncio.wait([call])

    async def close(self) -> None:
        """Stop all calls, within a few seconds."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=_SECONDS)
