"""Reload: a changed configuration that is valid is swapped in; so are pipelines whose Python has changed.

An invalid one is refused and reported, the old one runs on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from watchfiles import awatch

from config.model import ServiceConfig
from config.problems import ConfigProblems
from pipelines.pipeline import definition_hash, to_json

_log = logging.getLogger("tidegate.reload")
Version = tuple[int, int, int]
RECHECK = 2_000  # milliseconds after which files are looked at although nothing was heard of them


async def _nobody(why: str) -> None:
    """Tell nobody."""


async def watch_config(
    files: Sequence[Path],
    load: Callable[[], ServiceConfig],
    apply: Callable[[ServiceConfig], Awaitable[None]],
    refused: Callable[[str], Awaitable[None]] = _nobody,
) -> None:
    """Watch `files` until cancelled; editors that replace a file by renaming are seen as well.

    `refused` is told why a change was refused; it must not raise.
    """
    watched = await asyncio.to_thread(_resolved, files)
    current = ""
    seen = await asyncio.to_thread(_versions, watched)
    while watched:
        await _changed(seen)
        seen = await asyncio.to_thread(
            _versions, watched
        )  # before loading: what changes meanwhile is seen by the next look
        try:
            config = await asyncio.to_thread(load)
            identity = await asyncio.to_thread(_identity, config)
            if identity == current:
                continue
            await apply(config)
        except ConfigProblems as problems:
            for problem in problems.problems:
                _log.error("%s", problem, extra={"action": "reload_problem"})
            _log.error("the changed configuration was refused; the old one runs on", extra={"action": "reload_refused"})
            more = f" (and {len(problems.problems) - 1} more problems)" if len(problems.problems) > 1 else ""
            await refused(f"{problems.problems[0]}{more}")
        except Exception as error:  # noqa: BLE001 - a reload that fails must not stop the service
            _log.error(
                "the changed configuration was refused: %s; the old one runs on",
                error,
                extra={"action": "reload_refused"},
            )
            await refused(str(error) or type(error).__name__)
        else:
            current = identity
            watched = await asyncio.to_thread(_resolved, config.files)
            seen = {**await asyncio.to_thread(_versions, watched), **seen}
            _log.info("configuration %s is in force", config.hash[:12], extra={"action": "reloaded"})


async def _changed(seen: Mapping[Path, Version]) -> None:
    """Return when one of the files is not as it was seen.

    The files themselves are watched, not their folders: a database in the same folder would wake us at every commit. An
    editor that replaces a file takes its watch away, so each change begins a new watch, on what stands there then.
    """

    def differs() -> bool:
        return any(_version(path) != version for path, version in seen.items())

    if await asyncio.to_thread(differs):
        return
    try:
        async for _ in awatch(
            *await asyncio.to_thread(_existing, seen),
            recursive=False,
            debounce=200,
            step=50,
            rust_timeout=RECHECK,
            yield_on_timeout=True,
        ):
            if await asyncio.to_thread(differs):
                return
    except Exception as error:  # noqa: BLE001 - a file that went at this moment, or no watches left: look all the same
        _log.debug("the configuration's files cannot be watched now: %s", error)
    while not await asyncio.to_thread(differs):  # noqa: ASYNC110 - nobody could set an event
        await asyncio.sleep(RECHECK / 1_000)


def _identity(config: ServiceConfig) -> str:
    """Return what changes with the configuration's text and with the pipelines that its Python defines."""
    return " ".join([config.hash, *(definition_hash(to_json(one)) for one in config.pipelines.values())])


def _resolved(files: Sequence[Path]) -> list[Path]:
    return sorted({path.resolve() for path in files})


def _existing(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.exists()]


def _versions(files: Sequence[Path]) -> dict[Path, Version]:
    return {path: _version(path) for path in files}


def _version(path: Path) -> Version:
    """Return what changes with a file's content: inode, size and modification time; zeros while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
