"""What the listing benchmark is made of: the fake server, the bare paginator, the service, and looks into its store.

The server witnesses when a listing began and ended, the same for both sides. The store is asked through a connection of
our own that only reads, so a row that is seen there is committed.
"""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fake_s3 import BUCKET
from benchmarks.harness import LOAD_CORE, ROOT, SERVER_CORE, Process, free_port, pin, running


@dataclass(frozen=True, slots=True)
class Listing:
    """One whole listing as the server saw it: seconds of the monotonic clock, and its pages."""

    begun: float
    ended: float
    pages: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun


@dataclass(frozen=True, slots=True)
class FakeS3:
    """The running fake server."""

    process: Process

    def add(self, part: str, number: int) -> None:
        """Let objects appear below a part."""
        request = urllib.request.Request(f"{self.process.url}/_add?part={part}&n={number}", method="POST")
        urllib.request.urlopen(request, timeout=60).read()

    def listings(self, part: str) -> list[Listing]:
        """Return Tidegate's complete listings below a part, in order."""
        told = json.loads(urllib.request.urlopen(f"{self.process.url}/_listings", timeout=60).read())
        return [
            Listing(one["begun"], one["ended"], one["pages"])
            for one in told
            if one["prefix"] == f"{part}/" and one["ours"] and one["ended"] is not None
        ]

    def sensor(self, part: str, **more: Any) -> Mapping[str, Any]:
        """Return a sensor on a part, that scans when it is asked to."""
        return {
            "kind": "s3",
            "bucket": BUCKET,
            "prefix": f"{part}/",
            "start": "now",
            "every": "1d",
            "endpoint_url": self.process.url,
            "region": "us-east-1",
            "credentials": {"access_key_id": "bench", "secret_access_key": "env:BENCH_SECRET"},
            **more,
        }


@contextlib.contextmanager
def fake_s3(folder: Path, parts: Mapping[str, int]) -> Iterator[FakeS3]:
    """Run the fake server on the core of the load."""
    port = free_port()
    words = [f"{part}={count}" for part, count in parts.items()]
    command = [sys.executable, "-m", "benchmarks.fake_s3", str(port), *words]
    with running(command, f"http://127.0.0.1:{port}", "/_listings", folder, core=LOAD_CORE) as process:
        yield FakeS3(process)


@dataclass(frozen=True, slots=True)
class Bare:
    """The baseline's process."""

    popen: "subprocess.Popen[str]"

    def list(self, objects: int = 0) -> Mapping[str, Any]:
        """List so many objects more, 0 for the rest; return objects, wall and CPU seconds, and whether that was all."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(f"{objects}\n")
        self.popen.stdin.flush()
        told: dict[str, Any] = json.loads(self.popen.stdout.readline())
        return told


@contextlib.contextmanager
def bare(server: FakeS3, part: str, *, quick: bool = False) -> Iterator[Bare]:
    """Run the baseline on the core of the service."""
    words = [server.process.url, BUCKET, f"{part}/", *(["quick"] if quick else [])]
    command = [sys.executable, "-m", "benchmarks.baseline_listing", *words]
    popen = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, **pin(SERVER_CORE)
    )
    try:
        assert popen.stdout is not None
        if popen.stdout.readline().strip() != "ready":
            raise RuntimeError("the baseline did not start")
        yield Bare(popen)
    finally:
        popen.terminate()
        popen.wait(20)


def poll(service: Process, sensor: str) -> None:
    """Ask a sensor of the service to scan."""
    request = urllib.request.Request(f"{service.url}/api/v1/sensors/{sensor}/poll", method="POST", data=b"")
    urllib.request.urlopen(request, timeout=30).read()


def health(service: Process, sensor: str) -> Mapping[str, Any]:
    """Return what the service says of a sensor."""
    found: dict[str, Any] = json.loads(
        urllib.request.urlopen(f"{service.url}/api/v1/sensors/{sensor}", timeout=30).read()
    )
    return found


def until(holds: Callable[[], Any], seconds: float, what: str, every: float = 0.02) -> Any:
    """Ask until the answer is true, and return it. RuntimeError when that takes too long."""
    end = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)
    return answer


class StoreEye:
    """Looks into the store of a service without writing, one look at a time. Tables as in `tidegate.store.schema`."""

    def __init__(self, house: Path) -> None:
        file = house / "tidegate.db"
        self._db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)

    def one(self, sql: str, *values: Any) -> Any:
        """Return the first column of the first row."""
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def events(self, sensor: str) -> int:
        """Count the durable events of a sensor."""
        return int(self.one("SELECT count(*) FROM events WHERE sensor = ?", sensor))

    def remembered(self, sensor: str) -> int:
        """Count the remembered objects of a sensor."""
        return int(self.one("SELECT count(*) FROM seen_objects WHERE sensor = ?", sensor))

    def baseline(self, sensor: str) -> bool:
        """Say whether the first scan of a sensor is complete."""
        value = self.one("SELECT value FROM cursors WHERE sensor = ? AND shard = ''", sensor)
        return bool(value) and bool(json.loads(value)["baseline"])

    def size(self) -> int:
        """Return the bytes of the pages in use, with what is still in the log."""
        pages = int(self.one("PRAGMA page_count")) - int(self.one("PRAGMA freelist_count"))
        return pages * int(self.one("PRAGMA page_size"))

    def close(self) -> None:
        """Let go."""
        self._db.close()


class Peak:
    """The greatest resident memory of a process while something was awaited."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.mb = process.rss_mb()

    def during(self, holds: Callable[[], bool], what: str) -> None:
        """Wait, and measure meanwhile."""

        def looked() -> bool:
            self.mb = max(self.mb, self._process.rss_mb())
            return holds()

        until(looked, 280, what, 0.1)
