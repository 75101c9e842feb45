"""What the benchmarks share: processes pinned to cores, free ports, services under test, figures.

The server under test runs on core 0, everything that loads or watches it on core 1, so that a ratio compares servers
and not schedulers. Servers that are compared live at the same time and are loaded in turn (A B A B …): noise hits
both.
"""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECRET = "benchmark-secret"
SERVER_CORE, LOAD_CORE = 0, 1


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def signature(body: bytes) -> str:
    """Sign a body as the webhook sensor of the benchmarks expects it."""
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Process:
    """A running process with its base URL."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path
    ready_s: float

    def rss_mb(self) -> float:
        """Return the resident memory of the process itself, in MB."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"process {self.popen.pid} has no VmRSS; its log: {self.log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process and its threads have used."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(core: int) -> Mapping[str, Any]:
    """Return Popen arguments that pin a child to one core (where the machine has it)."""
    wanted = {core} if core < (os.cpu_count() or 1) else set(range(os.cpu_count() or 1))
    return {"preexec_fn": lambda: os.sched_setaffinity(0, wanted)}


def pin_self(core: int) -> None:
    """Pin this process to one core (where the machine has it)."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} if core in cores else cores)


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    url: str,
    ready: str,
    folder: Path,
    *,
    core: int = SERVER_CORE,
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run a server until the block ends; wait until `ready` (a path) answers 200."""
    log = folder / f"{Path(argv[-1]).name}-{url.rsplit(':', 1)[1]}.log"
    started = time.monotonic()
    with log.open("wb") as out:
        popen = subprocess.Popen(
            argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, **pin(core)
        )
    try:
        while True:
            if popen.poll() is not None:
                raise RuntimeError(f"{' '.join(argv)} ended with {popen.returncode}: {log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(url + ready, timeout=5) as answer:
                    if answer.status == 200:
                        break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.01)
            if time.monotonic() - started > 60:
                raise RuntimeError(f"{url}{ready} did not answer within 60 s: {log.read_text()[-3000:]}")
        yield Process(popen, url, log, time.monotonic() - started)
    finally:
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(20)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


@contextlib.contextmanager
def service(folder: Path, name: str, config: Mapping[str, Any]) -> Iterator[Process]:
    """Run Tidegate with a configuration (JSON is YAML) whose `service` section is completed here."""
    port = free_port()
    house = folder / name
    house.mkdir(parents=True)
    url = f"http://127.0.0.1:{port}"
    given = dict(config)
    given["service"] = {
        "name": name,
        "listen": f"127.0.0.1:{port}",
        "store": f"sqlite:///{house}/tidegate.db",
        "state_dir": str(house),
        "network": {"allow": ["127.0.0.0/8"]},
        **config.get("service", {}),
    }
    path = house / "tidegate.yaml"
    path.write_text(json.dumps(given))
    with running(
        [sys.executable, "-m", "tidegate", "serve", str(path)], url, "/readyz", folder, env={"BENCH_SECRET": SECRET}
    ) as process:
        yield process


def webhook_sensor() -> Mapping[str, Any]:
    """Return the signed webhook sensor that the benchmarks load."""
    return {
        "kind": "webhook",
        "path": "/hooks/bench",
        "verify": {"scheme": "hmac", "secret": "env:BENCH_SECRET", "header": "X-Signature", "prefix": "sha256="},
    }


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Give a folder on disk (not tmpfs) that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-", dir=os.environ.get("TIDEGATE_BENCH_DIR", ROOT)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fdatasync_ms(folder: Path, n: int = 200) -> float:
    """Measure the median time of a 4 KiB append with fdatasync in a folder, in milliseconds."""
    times = []
    with (folder / "fdatasync.probe").open("wb") as file:
        for _ in range(n):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-quantile (0..1) of values by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
