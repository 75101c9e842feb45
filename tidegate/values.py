"""Values that tasks handed on as files: forgotten when nothing can need them any more.

In flow the folders under `STATE/values`, one per run. A run that succeeded needs its values no more; those of a run
that failed or was cancelled stay for some days, because resuming it needs them; those of a run that is no longer in the
ledger go when they are old, for their run may not be visible yet. Versions of the user's code under `STATE/code` go
when no worker has imported them for a month. Looks at bounded numbers of folders, off the loop; first when it starts.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pipelines.datasets.values import remove_values
from pipelines.run import RunState
from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.store.reader import Reader
from tidegate.store.tx import Store

EVERY = 60.0  # seconds between looks
YOUNG = 86_400.0  # seconds for which a folder without a run is left alone
RESUMABLE = 7 * 86_400.0  # seconds for which a run that failed can be resumed without making its values anew
CODE = 30 * 86_400.0  # seconds for which a version of a file is kept after it was last imported
_CHUNK = 500
_log = logging.getLogger("tidegate.values")


async def sweep_values(store: Store, state: Path, clock: Clock) -> None:
    """Sweep until cancelled."""
    while True:
        try:
            gone = await sweep_once(store, state, time.time())
        except (Unavailable, OSError) as error:
            _log.warning(
                "values of forgotten runs could not be removed now: %s", error, extra={"action": "sweep_values"}
            )
        else:
            if gone:
                _log.info(
                    "removed the values of %d runs that need them no more", gone, extra={"action": "sweep_values"}
                )
        await clock.sleep(EVERY)


async def sweep_once(store: Store, state: Path, now: float) -> int:
    """Remove the folders of runs that need them no more at `now` (Unix seconds); return how many."""
    folders = await asyncio.to_thread(_folders, state / "values")
    removed = 0
    for start in range(0, len(folders), _CHUNK):
        chunk = folders[start : start + _CHUNK]

        def unneeded(reader: Reader, chunk: Sequence[tuple[str, float]] = chunk) -> list[str]:
            return [name for name, changed in chunk if _unneeded(reader, name, now - changed)]

        for name in await store.read(unneeded):
            await asyncio.to_thread(remove_values, state, name)
            removed += 1
    await asyncio.to_thread(_remove_old, state / "code", now - CODE)
    return removed


def _unneeded(reader: Reader, uid: str, age: float) -> bool:
    run = reader.run(uid)
    if run is None:
        return age > YOUNG
    if run.state is RunState.SUCCEEDED:
        return True
    return run.state.final and age > RESUMABLE


def _folders(folder: Path) -> list[tuple[str, float]]:
    if not folder.is_dir():
        return []
    return [(path.name, path.stat().st_mtime) for path in islice(folder.iterdir(), 100_000)]


def _remove_old(folder: Path, before: float) -> None:
    if folder.is_dir():
        for path in islice(folder.iterdir(), 100_000):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
