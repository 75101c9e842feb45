"""The log lines of attempts under way: buffered, bounded, written in batches.

In flow lines from engines, out flow batches to `RunStore.log` twice a second; what an attempt has left at its end goes
into the very step that ends it. Lines of one attempt keep their order. A flood is cut at fixed bounds: a visible line
says so when it happens, another says at the end exactly how much was left out.
"""

import asyncio
import logging
from collections.abc import Sequence

from pipelines.ports import RunStore
from pipelines.run import LogLine
from sensors.clock import Clock
from sensors.event import storable_text
from sensors.ports import Unavailable

logger = logging.getLogger(__name__)

MAX_LINE = 8192  # characters of one line
MAX_LINES = 10_000  # lines of one attempt
MAX_CHARS = 4_194_304  # characters of one attempt
MAX_WAITING = 16_777_216  # characters that wait for the store, of all attempts together
FLUSH_EVERY = 0.5  # seconds
FLUSH_LINES = 5_000  # lines of one write, about


def storable(text: str) -> str:
    """Return text that every store takes: NUL and lone surrogates replaced by U+FFFD."""
    if storable_text(text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class AttemptLog:
    """The lines of one attempt. `add` is what engines get as `TaskContext.log`."""

    __slots__ = (
        "_attempt",
        "_book",
        "_chars",
        "_lines",
        "_run",
        "_task",
        "flying",
        "left_chars",
        "left_out",
        "waiting",
    )

    def __init__(self, book: "LogBook", run: str, task: str, attempt: int) -> None:
        self._book = book
        self._run = run
        self._task = task
        self._attempt = attempt
        self._lines = 0
        self._chars = 0
        self.waiting: list[LogLine] = []
        self.flying = False
        self.left_out = 0
        self.left_chars = 0

    def add(self, stream: str, text: str) -> None:
        """Keep one line (or count it as left out)."""
        text = text.rstrip("\r\n")
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]} [cut: the line had {len(text)} characters]"
        size = len(text)
        if self._lines >= MAX_LINES or self._chars + size > MAX_CHARS or self._book.waiting_chars > MAX_WAITING:
            if not self.left_out:
                self._keep("log", "too much output: from here on lines are counted, not kept")
            self.left_out += 1
            self.left_chars += size
            return
        self._lines += 1
        self._chars += size
        self._keep(stream, storable(text))

    def _keep(self, stream: str, text: str) -> None:
        book = self._book
        self.waiting.append(LogLine(self._run, self._task, self._attempt, book.now(), stream, text))
        book.noted(self, len(text))

    async def take(self) -> Sequence[LogLine]:
        """End the log: return the lines that are not written yet, after those that are being written now."""
        if self.left_out:
            self._keep("log", f"{self.left_out} lines ({self.left_chars} characters) of output were left out")
        if self.flying:
            await self._book.landed()
        return self._book.hand_over(self)


class LogBook:
    """All open logs of one dispatcher."""

    def __init__(self, store: RunStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.now = clock.now
        self.waiting_chars = 0
        self._dirty: dict[AttemptLog, None] = {}
        self._lock = asyncio.Lock()

    def open(self, run: str, task: str, attempt: int) -> AttemptLog:
        """Open the log of an attempt."""
        return AttemptLog(self, run, task, attempt)

    def noted(self, log: AttemptLog, size: int) -> None:
        """Remember that a log has one more line waiting."""
        self._dirty[log] = None
        self.waiting_chars += size

    def hand_over(self, log: AttemptLog) -> list[LogLine]:
        """Take the waiting lines of one log out of the book."""
        self._dirty.pop(log, None)
        lines, log.waiting = log.waiting, []
        self.waiting_chars -= sum(len(line.text) for line in lines)
        return lines

    async def landed(self) -> None:
        """Wait until no write is under way."""
        async with self._lock:
            pass

    async def flush(self) -> None:
        """Write what waits, up to about `FLUSH_LINES`. When the store cannot, lines wait on, within their bounds."""
        async with self._lock:
            if not self._dirty:
                return
            taken: list[tuple[AttemptLog, list[LogLine]]] = []
            count = 0
            for log in list(self._dirty):
                lines = self.hand_over(log)
                log.flying = True
                taken.append((log, lines))
                count += len(lines)
                if count >= FLUSH_LINES:
                    break
            try:
                await self._store.log([line for _, lines in taken for line in lines])
            except Unavailable:
                for log, lines in taken:
                    log.waiting[:0] = lines
                    self._dirty[log] = None
                    self.waiting_chars += sum(len(line.text) for line in lines)
            except Exception:
                logger.exception("log lines of runs could not be stored and are lost", extra={"action": "logs_lost"})
            finally:
                for log, _ in taken:
                    log.flying = False

    async def keep_flushing(self) -> None:
        """Write what waits, for ever."""
        while True:
            await self._clock.sleep(FLUSH_EVERY)
            if self._dirty:
                await self.flush()
