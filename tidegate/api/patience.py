"""Cutting slow senders, for many requests with one timer.

A timer per request would cost more than verifying its signature. Here a request that waits for its sender is only
noted; one timer, set while anybody waits, cancels the tasks that have waited too long. A task is cut after one to one
and a half times the limit.
"""

import asyncio
from typing import Any

Task = asyncio.Task[Any]


class Patience:
    """Knows which tasks wait for their senders. All calls belong to one loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: dict[Task, float] = {}  # task -> loop time at which it began to wait; in order of that time
        self._lost: set[Task] = set()
        self._now = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: Task) -> None:
        """A task begins to wait."""
        if self._timer is None:
            self._tick()
        self._waiting[task] = self._now

    def end(self, task: Task) -> None:
        """A task waits no more."""
        self._waiting.pop(task, None)
        self._lost.discard(task)

    def lost(self, task: Task) -> bool:
        """Say whether it was we who cancelled the task."""
        return task in self._lost

    def _tick(self) -> None:
        """Cancel who waited too long; come back while somebody waits."""
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        for task, since in list(self._waiting.items()):
            if since > self._now - 1.25 * self.seconds:  # `since` may be a quarter too early
                break
            self._lost.add(task)
            task.cancel()
        self._timer = loop.call_later(self.seconds / 4, self._again)

    def _again(self) -> None:
        self._timer = None
        if self._waiting:
            self._tick()
