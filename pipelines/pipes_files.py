"""The files through which a Pipes program on this machine is spoken to: its context, and the messages that it writes.

In flow an attempt's context; out flow the two bootstrap variables and, while the program runs, its messages in order.
A folder belongs to one attempt and is gone with it; what a killed service left behind is cleared by the next one.
"""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import orjson
import psutil

from pipelines.pipes import CONTEXT, MESSAGES, PipesInbox, PipesOptions, assets_of, context_of, encode
from pipelines.ports import TaskContext

LOOK_EVERY: Final = 0.2  # seconds; what is logged may be this old
_CHUNK: Final = 262_144


class PipesFolder:
    """One attempt's folder with its inbox."""

    def __init__(self, root: Path, number: str, options: PipesOptions, context: TaskContext) -> None:
        self.inbox = PipesInbox(assets_of(options, context), context.log)
        self._folder = root / f"{os.getpid()}-{number}"
        self._messages = self._folder / "messages"
        self._data = context_of(options, context)
        self._tail: asyncio.Task[None] | None = None
        self._read = 0

    async def open(self) -> dict[str, str]:
        """Write the context; return the variables that tell the program of it."""
        told = self._folder / "context"
        await asyncio.to_thread(self._make, told)
        self._tail = asyncio.get_running_loop().create_task(self._follow())
        return {CONTEXT: encode({"path": str(told)}), MESSAGES: encode({"path": str(self._messages)})}

    def _make(self, told: Path) -> None:
        self._folder.mkdir(parents=True, mode=0o700)
        told.write_bytes(orjson.dumps(self._data))
        self._messages.touch(mode=0o600)

    async def end(self) -> PipesInbox:
        """Read what the program wrote last; return the inbox."""
        await self._stop()
        await self._look_through()
        self.inbox.end()
        return self.inbox

    async def close(self) -> None:
        """Forget the folder."""
        await self._stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _follow(self) -> None:
        while True:
            await self._look_through()
            await asyncio.sleep(LOOK_EVERY)

    async def _look_through(self) -> None:
        """Read all there is, a piece at a time: a flood of messages leaves the loop to others."""
        while data := await asyncio.to_thread(self._piece):
            self._read += len(data)
            self.inbox.feed(data)

    async def _stop(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tail

    def _piece(self) -> bytes:
        """Read what follows of the messages; nothing when the program took its own folder away."""
        try:
            with self._messages.open("rb") as messages:
                messages.seek(self._read)
                return messages.read(_CHUNK)
        except FileNotFoundError:
            return b""


def clear_orphans(root: Path) -> None:
    """Remove folders whose service is gone."""
    for folder in root.glob("*-*") if root.is_dir() else ():
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
