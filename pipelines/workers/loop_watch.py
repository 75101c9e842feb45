"""A watch over the loop while users' coroutines run in it: what blocks it is named while it does.

In flow the tasks that run in the loop; out flow a warning to the service's log as soon as the loop has stood still for
a second, with the line that holds it up, and a line in the log of the run whose task it was, when the loop turns again.
There is a thread only while there is something to watch.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
Log = Callable[[str, str], None]


class LoopWatch:
    """Watches the loop it is first used in. `patience` and `every` are seconds."""

    def __init__(self, patience: float = 1.0, every: float = 0.1) -> None:
        self._patience = patience
        self._every = every
        self._watched: dict[asyncio.Task[Any], Log] = {}
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._beat = 0.0

    @contextmanager
    def over(self, task: "asyncio.Task[Any]", log: Log) -> Iterator[None]:
        """Watch while the block runs; `log` is the log of the run that `task` belongs to."""
        self._watched[task] = log
        if self._thread is None:
            self._beat = time.monotonic()
            self._over = threading.Event()
            arguments = (asyncio.get_running_loop(), threading.get_ident(), self._over)
            self._thread = threading.Thread(target=self._watch, args=arguments, name="loop-watch", daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            del self._watched[task]
            if not self._watched:
                self._over.set()
                self._thread = None

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int, over: threading.Event) -> None:
        told = False
        while not over.wait(self._every):
            stood = time.monotonic() - self._beat
            if stood > self._patience and not told:
                told = True
                self._tell(loop, ident, stood)
            elif stood <= self._patience:
                told = False
            try:
                loop.call_soon_threadsafe(self._turned)
            except RuntimeError:  # the loop is closed
                return

    def _turned(self) -> None:
        self._beat = time.monotonic()

    def _tell(self, loop: asyncio.AbstractEventLoop, ident: int, stood: float) -> None:
        """Say who holds the loop up, and where."""
        frame = sys._current_frames().get(ident)  # noqa: SLF001 - the documented way to another thread's stack
        task = asyncio.current_task(loop)
        log = None if task is None else self._watched.get(task)
        where = _where(frame)
        who = f"task {task.get_name()}" if task is not None and log is not None else "something"
        said = f"the service's loop stands still for {stood:.1f} s"
        logger.error("%s: %s blocks it at %s", said, who, where, extra={"action": "loop_blocked"})
        if log is not None:
            line = f"{said}, because this task blocks it at {where}; await what takes time, or leave out `in_loop`"
            loop.call_soon_threadsafe(log, "engine", line)


def _where(frame: FrameType | None) -> str:
    """Return the stack below the loop's own frames: the function that was called, and the last two under it."""
    stack = traceback.extract_stack(frame) if frame is not None else []
    loops = [index for index, one in enumerate(stack) if one.name in ("_run", "_run_once", "run_until_complete")]
    ours = stack[max(loops, default=-1) + 1 :]
    shown = ours if len(ours) <= 3 else [ours[0], *ours[-2:]]
    return " > ".join(f"{one.filename}:{one.lineno} {one.name}" for one in shown) or "somewhere"
