"""A real Dask cluster for tests: a scheduler and workers as processes on loopback, stopped by their pids."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class DaskCluster:
    """A running cluster. `workers` are the processes of its workers (without nannies, so that a kill is a death)."""

    folder: Path
    address: str
    scheduler: "subprocess.Popen[bytes]"
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)

    def add_worker(self, threads: int = 2) -> "subprocess.Popen[bytes]":
        number = len(self.workers)
        argv = ["dask_worker", self.address, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        more = ["--nthreads", str(threads), "--local-directory", str(self.folder / f"worker{number}")]
        process = _start([*argv, *more, "--death-timeout", "20"], self.folder / f"worker{number}.log")
        self.workers.append(process)
        return process

    async def ready(self) -> None:
        """Return when all workers have registered."""
        for number, worker in enumerate(self.workers):
            log = self.folder / f"worker{number}.log"
            await _said(log, "Registered to", worker)

    async def settled(self) -> None:
        """Return when every worker that still runs has registered."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is None:
                with contextlib.suppress(RuntimeError):
                    await _said(self.folder / f"worker{number}.log", "Registered to", worker)

    def kill_scheduler(self) -> None:
        _end(self.scheduler, signal.SIGKILL)

    async def restart_scheduler(self) -> None:
        """Start a scheduler that knows nothing, at the same address."""
        self.scheduler = await _scheduler(self.address, self.folder)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            _end(process, signal.SIGKILL)


async def _scheduler(address: str, folder: Path) -> "subprocess.Popen[bytes]":
    log = folder / f"scheduler{len(list(folder.glob('scheduler*.log')))}.log"
    port = address.rpartition(":")[2]
    argv = ["dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show"]
    process = _start(argv, log)
    await _said(log, "Scheduler at:", process)
    return process


@contextlib.asynccontextmanager
async def dask_cluster(folder: Path, workers: int = 2, threads: int = 2) -> AsyncIterator[DaskCluster]:
    """Run a scheduler and its workers until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"tcp://127.0.0.1:{free_port()}"
    cluster = DaskCluster(folder, address, await _scheduler(address, folder))
    try:
        for _ in range(workers):
            cluster.add_worker(threads)
        await cluster.ready()
        yield cluster
    finally:
        cluster.stop()


def _start(argv: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{argv[0]}", *argv[1:]],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    process.wait(10)


async def _said(log: Path, words: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when a process has said something."""
    async with asyncio.timeout(40):
        while words not in (text := await asyncio.to_thread(log.read_text)):
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}: {text[-2000:]}")
            await asyncio.sleep(0.02)
