"""What a process has in memory, as tests of bounds ask for it."""

import os
from pathlib import Path


def anonymous(pid: int | None = None) -> int:
    """Return the bytes of a process that are not pages of files."""
    for line in Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} tells no RssAnon")


def peak(pid: int | None = None) -> int:
    """Return the most bytes that a process has had resident."""
    for line in Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} tells no VmHWM")
