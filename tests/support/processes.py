"""Waiting for processes: for their pids in files, and for their end."""

import asyncio
import os
from pathlib import Path


async def read_pid(path: Path, seconds: float = 20.0) -> int:
    """Return the number in a file as soon as there is one."""
    async with asyncio.timeout(seconds):
        while True:
            if path.exists() and (text := path.read_text().strip()):
                return int(text)
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def gone(*pids: int, seconds: float = 10.0) -> None:
    """Return when none of the processes runs any more; TimeoutError when they do not end."""
    async with asyncio.timeout(seconds):
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.005)
