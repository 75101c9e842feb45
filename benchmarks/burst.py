"""Ten thousand new objects at once, found by one scan of the whole service: how soon are all of them durable events?

Once with a trigger that matches none of them, once with one that starts a run for each, whose HTTP request arrives at a
sink in this process. One clock (monotonic) tells when the listing ended and when the first run called.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Process, free_port, service
from benchmarks.listing_rig import FakeS3, StoreEye, bare, poll, until
from benchmarks.openloop import Rig

_PATIENCE = 120.0


def _config(server: FakeS3, sink_port: int) -> Mapping[str, Any]:
    call = {
        "concurrency": 256,
        "params": {"n": {"type": "int", "required": True}},
        "tasks": {
            "call": {
                "engine": "http",
                "method": "POST",
                "url": f"http://127.0.0.1:{sink_port}/runs/${{{{ params.n }}}}",
            }
        },
    }
    return {
        "sensors": {
            "burst": server.sensor("burst"),
            "drops": server.sensor("drops", pattern="drops/{folder}/{n}-{word}.parquet"),
        },
        "triggers": {
            "never": {
                "on": {"sensor": "burst", "filter": {"suffix": {"subject": ".never"}}},
                "run": {"pipeline": "call"},
            },
            "each": {
                "on": {"sensor": "drops"},
                "run": {"pipeline": "call", "params": {"n": "${{ int(event.match.n) }}"}},
            },
        },
        "pipelines": {"call": call},
    }


async def burst(folder: Path, server: FakeS3, objects: int, new: int) -> Mapping[str, Any]:
    """Return how long the scan took that found the new objects, as a ratio to the bare listing, and its first run."""
    rig = Rig(free_port())
    await rig.open()
    with service(folder, "burst", _config(server, rig.sink_port)) as ours:
        eye = StoreEye(folder / "burst")

        def ready() -> bool:
            return eye.baseline("burst") and eye.baseline("drops")

        await asyncio.to_thread(until, ready, _PATIENCE, "the first scans")
        before = await asyncio.to_thread(_bare, server, objects)
        alone = await _found(server, ours, eye, "burst", new)
        after = await asyncio.to_thread(_bare, server, objects + new)
        quick = await asyncio.to_thread(_bare, server, objects + new, quick=True)
        running = await _found(server, ours, eye, "drops", new)
        first = min(rig.figures.arrived.values(), default=None)
        if first is None:
            raise RuntimeError("no run of a new object ever called")
        during = sum(moment < running["ended"] for moment in rig.figures.arrived.values())
        if first >= running["ended"]:
            raise RuntimeError("no run started while the scan was still going on")
        eye.close()
    await rig.close()
    scan = alone["durable"] - alone["begun"]
    bare_us = (before["us"] + after["us"]) / 2  # listed before and after ours, so that noise hits both
    return {
        "new_objects": new,
        "new_objects_among": objects + new,
        "new_objects_ratio": round(scan * 1e6 / (bare_us * (objects + new)), 3),
        "new_objects_s": round(scan, 2),
        "per_s": round(new / scan),
        "bare_us_per_object": [round(before["us"], 1), round(after["us"], 1)],
        "bare_cpu_us_per_object_with_our_timestamp_parser": round(quick["cpu_us"], 1),
        "first_run_s": round(first - running["begun"], 2),
        "last_page_s": round(running["ended"] - running["begun"], 2),
        "scan_with_runs_s": round(running["durable"] - running["begun"], 2),
        "runs_called_before_last_page": during,
    }


async def _found(server: FakeS3, ours: Process, eye: StoreEye, part: str, new: int) -> Mapping[str, float]:
    """Let objects appear, have a scan made, and return when it began and when all were durable."""
    known = len(server.listings(part))
    server.add(part, new)
    poll(ours, part)

    def durable() -> bool:
        return eye.events(part) >= new

    await asyncio.to_thread(until, durable, _PATIENCE, "the new objects")
    seen = time.monotonic()
    listing = await asyncio.to_thread(until, lambda: server.listings(part)[known:], _PATIENCE, "the end of the scan")
    if eye.events(part) != new:
        raise RuntimeError(f"{eye.events(part)} events of {new} new objects")
    return {"begun": listing[0].begun, "ended": listing[0].ended, "durable": max(seen, listing[0].ended)}


def _bare(server: FakeS3, objects: int, *, quick: bool = False) -> Mapping[str, float]:
    """Return the microseconds per object of the baseline, wall and CPU."""
    with bare(server, "burst", quick=quick) as baseline:
        told = baseline.list()
    if told["objects"] != objects:
        raise RuntimeError(f"the baseline listed {told['objects']} of {objects} objects")
    return {"us": 1e6 * told["s"] / objects, "cpu_us": 1e6 * told["cpu_s"] / objects}
