"""Whole runs a second: durable webhook → run → HTTP call finished and recorded, open loop for 60 s, tracing on.

The offered rate counts as sustained when at its end at most one second's worth of runs is not recorded yet. Rates are
tried upwards briefly, then the best one is held for the full time. Load and sink share the machine's two cores with
the service.
"""

import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import (
    LOAD_CORE,
    Process,
    fdatasync_ms,
    free_port,
    pin_self,
    quantile,
    running,
    service,
    webhook_sensor,
    workspace,
)
from benchmarks.openloop import Figures, Rig, calling_pipeline

STEPS = (200, 300, 400, 500, 600, 700, 800)
PROBE, HOLD = 5, 60


def measure(steps: tuple[int, ...] = STEPS, hold: int = HOLD) -> Mapping[str, Any]:
    """Return the sustained rates on SQLite and on PostgreSQL."""
    pin_self(LOAD_CORE)
    with workspace() as folder:
        otlp = free_port()
        with running(
            [sys.executable, "-m", "benchmarks.sink", str(otlp)],
            f"http://127.0.0.1:{otlp}",
            "/",
            folder,
            core=LOAD_CORE,
        ) as sink:
            sqlite = _sustained(folder, "sqlite", sink.url, None, steps, hold)
            from benchmarks.postgres import database

            with database(folder) as url:
                postgres = _sustained(folder, "postgresql", sink.url, url, steps, hold)
        return {
            "ratio": None,
            "runs_per_s": sqlite["runs_per_s"],
            "runs_per_s_postgres": postgres["runs_per_s"],
            "sqlite": sqlite,
            "postgresql": postgres,
            "fdatasync_ms": round(fdatasync_ms(folder), 3),
        }


@contextlib.contextmanager
def _service(folder: Path, name: str, rig: Rig, otlp: str, store: str | None) -> Iterator[Process]:
    config = {
        "sensors": {"hooks": webhook_sensor()},
        "telemetry": {"otlp": {"endpoint": otlp}},
        **calling_pipeline(rig.sink_port),
    }
    with service(folder, name, {**config, **({"service": {"store": store}} if store else {})}) as process:
        yield process


def _sustained(
    folder: Path, name: str, otlp: str, store: str | None, steps: tuple[int, ...], hold: int
) -> Mapping[str, Any]:
    rig = Rig(free_port())
    with _service(folder, name, rig, otlp, store) as process:
        return asyncio.run(_climb(rig, process, steps, hold))


async def _climb(rig: Rig, process: Process, steps: tuple[int, ...], hold: int) -> Mapping[str, Any]:
    await rig.open()
    host, _, port = process.url.removeprefix("http://").partition(":")
    first = 0
    await rig.load(host, int(port), 100, 2, first=90_000_000)
    best = steps[0]
    for rate in steps:
        figures = await rig.load(host, int(port), rate, PROBE, first=first)
        first += len(figures.sent)
        behind = _behind(figures)
        await _settled(figures, process)
        if behind > rate * 0.5 or figures.refused or figures.late > rate * 0.05 * PROBE:
            break
        best = rate
    while True:
        cpu = process.cpu_s()
        figures = await rig.load(host, int(port), best, hold, first=first)
        first += len(figures.sent)
        pending = _pending(process)
        behind = max(_behind(figures), pending)
        used = process.cpu_s() - cpu
        await _settled(figures, process)
        if behind <= best or best <= steps[0]:
            break
        best -= 50
    await rig.close()
    delays = [delay * 1000 for delay in figures.delays()]
    return {
        "runs_per_s": best if behind <= best and not figures.refused else 0,
        "seconds": hold,
        "backlog_s": round(behind / best, 2),
        "p50_ms": round(quantile(delays, 0.5), 1),
        "p99_ms": round(quantile(delays, 0.99), 1),
        "lost": len(figures.sent) - len(figures.arrived),
        "repeats": figures.repeats,
        "refused": figures.refused,
        "sent_late": figures.late,
        "cpu_ms_per_run": round(used / max(1, len(figures.arrived)) * 1000, 2),
        "rss_mb": round(process.rss_mb(), 1),
    }


def _behind(figures: Figures) -> int:
    return len(figures.sent) - len(figures.arrived)


def _pending(process: Process) -> int:
    """Ask how many runs are not recorded as finished."""
    total = 0
    for state in ("queued", "running"):
        with urllib.request.urlopen(f"{process.url}/api/v1/runs?state={state}&limit=500", timeout=10) as answer:
            total += len(json.load(answer)["items"])
    return total


async def _settled(figures: Figures, process: Process) -> None:
    deadline = time.monotonic() + 60
    while len(figures.arrived) < len(figures.sent) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    while await asyncio.to_thread(_pending, process) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
