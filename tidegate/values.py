"""Values that tasks handed on as files: forgotten when their run is.

In flow the folders under `STATE/values`, one per run; those whose run is no longer in the ledger are removed. Looks
at bounded numbers of folders, off the loop, and leaves young folders alone: their run may not be visible yet.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pipelines.datasets.values import remove_values
from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.store.reader import Reader
from tidegate.store.tx import Store

EVERY = 3_600.0  # seconds between looks
YOUNG = 86_400.0  # seconds for which a folder is left alone
_CHUNK = 500
_log = logging.getLogger("tidegate.values")


async def sweep_values(store: Store, state: Path, clock: Clock) -> None:
    """Sweep until cancelled."""
    while True:
        await clock.sleep(EVERY)
        try:
            gone = await sweep_once(store, state, time.time() - YOUNG)
        except (Unavailable, OSError) as error:
            _log.warning(
                "values of forgotten runs could not be removed now: %s", error, extra={"action": "sweep_values"}
            )
        else:
            if gone:
                _log.info("removed the values of %d forgotten runs", gone, extra={"action": "sweep_values"})


async def sweep_once(store: Store, state: Path, before: float) -> int:
    """Remove the folders last changed before `before` (Unix time) whose run is gone; return how many."""
    folders = await asyncio.to_thread(_old, state / "values", before)
    removed = 0
    for start in range(0, len(folders), _CHUNK):
        names = folders[start : start + _CHUNK]

        def missing(reader: Reader, names: Sequence[str] = names) -> list[str]:
            return [name for name in names if reader.run(name) is None]

        for name in await store.read(missing):
            await asyncio.to_thread(remove_values, state, name)
            removed += 1
    return removed


def _old(folder: Path, before: float) -> list[str]:
    if not folder.is_dir():
        return []
    return [path.name for path in islice(folder.iterdir(), 100_000) if path.stat().st_mtime < before]
