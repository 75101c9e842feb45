"""`?wait=30s`: a sender that stays on the line until its delivery's runs have ended.

In flow the uids of its events, out flow their runs as they stand when all have ended, when the time is over, or when
the service stops, whichever comes first. One look serves all who wait; there is a bound on how many may. Runs that a
trigger starts later (a join, a batch, a schedule) are not waited for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from sensors.clock import Clock
from sensors.errors import Refused
from sensors.ports import Unavailable
from sensors.units import parse_duration
from tidegate.store.reader import Reader, Row
from tidegate.store.tx import Store

MOST: Final = 256  # senders that wait at once
_FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
_QUICK, _SLOW = 0.02, 0.5  # seconds between two looks, from the first to the last
_RUNS: Final = 100  # runs of one event that are told

Result = Mapping[str, Sequence[Row]]


def asked_wait(query: bytes, longest: float) -> float:
    """Return how long a sender wants to wait, in seconds and at most `longest`. Raises Refused(400) for no duration."""
    if longest <= 0 or b"wait=" not in query:
        return 0.0
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=64)
        given = [value for name, value in pairs if name == "wait"]
        return min(longest, parse_duration(given[0])) if given else 0.0
    except ValueError as error:
        reason = "?wait= must be a duration such as 30s"
        raise Refused(400, "bad_wait", reason, public=reason) from error


class RunWaiter:
    """Waits for runs. All calls belong to one loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting = 0
        self._stop = asyncio.Event()

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._stop.set()

    async def wait(self, events: Sequence[str], seconds: float) -> tuple[Result, bool]:
        """Return the runs of each event and whether all have ended, now or after at most `seconds`."""
        end = self._clock.monotonic() + seconds
        if self._waiting >= MOST:
            end = 0.0
        self._waiting += 1
        pause = _QUICK
        try:
            while True:
                try:
                    found = await self._store.read(lambda reader: _runs(reader, events))
                except Unavailable:  # what was accepted is durable all the same
                    return {}, False
                ended = all(row["state"] in _FINAL for rows in found.values() for row in rows)
                left = end - self._clock.monotonic()
                if ended or left <= 0 or self._stop.is_set():
                    return found, ended
                await self._sleep(min(pause, left))
                pause = min(pause * 1.5, _SLOW)
        finally:
            self._waiting -= 1

    async def _sleep(self, seconds: float) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        nap = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({stop, nap}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            nap.cancel()


def _runs(reader: Reader, events: Sequence[str]) -> Result:
    return {uid: reader.runs(limit=_RUNS, event=uid)[0] for uid in events}


def run_result(row: Row) -> dict[str, Any]:
    """Return what a sender is told of a run: nothing of what it did, only how it ended."""
    return {"run": row["uid"], "pipeline": row["pipeline"], "state": row["state"]}
