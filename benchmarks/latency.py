"""From the webhook to the run: open loop, 100 webhooks a second for 30 s; how late does the run's HTTP request arrive?

Measured from the moment at which the webhook was due to leave until the request of the run's `http` task arrives at a
sink in the same process: accept, verify, commit, judge, claim, start and send all lie in between.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import (
    LOAD_CORE,
    fdatasync_ms,
    free_port,
    pin_self,
    quantile,
    running,
    service,
    webhook_sensor,
    workspace,
)
from benchmarks.openloop import Rig, calling_pipeline

RATE, SECONDS = 100, 30


def measure(rate: int = RATE, seconds: int = SECONDS) -> Mapping[str, Any]:
    """Return p50 and p99 in milliseconds and what was lost."""
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
            rig = Rig(free_port())
            config = {
                "sensors": {"hooks": webhook_sensor()},
                "telemetry": {"otlp": {"endpoint": sink.url}},
                **calling_pipeline(rig.sink_port),
            }
            with service(folder, "latency", config) as process:
                figures = asyncio.run(_drive(rig, process.url, rate, seconds))
                delays = [delay * 1000 for delay in figures.delays()]
                accepts = [
                    (figures.answered[n] - sent) * 1000 for n, sent in figures.sent.items() if n in figures.answered
                ]
                return {
                    "ratio": None,
                    "p50_ms": round(quantile(delays, 0.5), 2),
                    "p99_ms": round(quantile(delays, 0.99), 2),
                    "max_ms": round(max(delays), 2),
                    "accept_p50_ms": round(quantile(accepts, 0.5), 2),
                    "accept_p99_ms": round(quantile(accepts, 0.99), 2),
                    "sent": len(figures.sent),
                    "arrived": len(figures.arrived),
                    "lost": len(figures.sent) - len(figures.arrived),
                    "repeats": figures.repeats,
                    "sent_late": figures.late,
                    "rss_mb": round(process.rss_mb(), 1),
                    "fdatasync_ms": round(fdatasync_ms(folder), 3),
                }


async def _drive(rig: Rig, url: str, rate: int, seconds: int) -> Any:
    await rig.open()
    host, _, port = url.removeprefix("http://").partition(":")
    await rig.load(host, int(port), rate, 2, first=10_000_000)
    await asyncio.sleep(0.5)
    figures = await rig.load(host, int(port), rate, seconds)
    for _ in range(500):
        if len(figures.arrived) >= len(figures.sent):
            break
        await asyncio.sleep(0.01)
    await rig.close()
    return figures
