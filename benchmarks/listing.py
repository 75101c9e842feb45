"""The sensor on object storage against the bare SDK paginator: a million objects, and ten thousand new ones at once.

A paged fake S3 server over HTTP (`benchmarks.fake_s3`, a formula, no memory) with the real SDK on top of both sides.
Ours is the whole service with its store on disk. `ratio` is the time per object of a scan that finds nothing new ÷ that
of the bare paginator, which lists a quarter of the same objects before ours and goes on after it, with all the others
or as many as fit into `BUDGET`: `bare_objects` tells how many. With few objects (`--objects`) there are three pairs.
Most of the SDK's time goes into parsing timestamps, for which ours gives it a faster function. A second ratio, of
CPU and to a baseline with such a function, shows what the sensor itself adds.
First scan, memory and store growth are measured on the way, `benchmarks.burst` adds many new objects at once,
`benchmarks.notices` notifications.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.burst import burst
from benchmarks.harness import LOAD_CORE, fdatasync_ms, pin_self, service, workspace
from benchmarks.listing_rig import FakeS3, Listing, Peak, StoreEye, bare, fake_s3, poll
from benchmarks.notices import notices

OBJECTS, SMALL, BURST, NEW = 1_000_000, 10_000, 30_000, 10_000
_PORTION = 25_000  # objects that the baseline lists between two looks at the clock
BUDGET = 185.0  # seconds for first scan, scans and baseline together, of the 300 for all
_PIPELINES = {"noop": {"engine": "command", "argv": ["true"]}}


def measure(objects: int = OBJECTS, new: int = NEW) -> Mapping[str, Any]:
    """Return ratio, memory, store growth, the first scan, the burst and the notifications."""
    pin_self(LOAD_CORE)
    with workspace() as folder:
        parts = {"landing": objects, "small": SMALL, "burst": BURST, "drops": BURST}
        with fake_s3(folder, parts) as server:
            steady = _steady(folder, server, objects)
            found = asyncio.run(burst(folder, server, BURST, new))
        told = notices(folder)
        like = steady["cpu_us_per_object"] / found["bare_cpu_us_per_object_with_our_timestamp_parser"]
        return {
            **steady,
            "cpu_ratio_with_our_timestamp_parser_in_the_baseline": round(like, 3),
            **found,
            **told,
            "fdatasync_ms": round(fdatasync_ms(folder), 3),
        }


def _config(server: FakeS3, part: str) -> Mapping[str, Any]:
    never = {"on": {"sensor": part, "filter": {"suffix": {"subject": ".never"}}}, "run": {"pipeline": "noop"}}
    return {"sensors": {part: server.sensor(part)}, "triggers": {"never": never}, "pipelines": _PIPELINES}


def _steady(folder: Path, server: FakeS3, objects: int) -> Mapping[str, Any]:
    """Compare scans that find nothing new; in each pair the baseline is listed before and after ours."""
    end = time.monotonic() + BUDGET
    small = _memory_with_few(folder, server)
    pairs = 1 if objects > 200_000 else 3
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(service(folder, "landing", _config(server, "landing")))
        eye = StoreEye(folder / "landing")
        stack.callback(eye.close)
        peak = Peak(ours)
        empty = eye.size()
        peak.during(lambda: eye.baseline("landing"), "the first scan")
        first = server.listings("landing")[0]
        grown = eye.size() - empty
        scans: list[Listing] = []
        cpu: list[float] = []
        bares: list[Mapping[str, Any]] = []
        for _ in range(pairs):
            baseline = stack.enter_context(bare(server, "landing"))
            portions = [baseline.list(objects // 4)]
            known, used = len(server.listings("landing")), ours.cpu_s()
            poll(ours, "landing")

            def scanned(known: int = known) -> bool:
                return len(server.listings("landing")) > known

            peak.during(scanned, "a scan")
            scans.append(server.listings("landing")[known])
            cpu.append(ours.cpu_s() - used)
            while not portions[-1]["done"] and (len(portions) < 5 or time.monotonic() < end):
                portions.append(baseline.list(max(_PORTION, objects // 40)))
            bares.append({name: sum(one[name] for one in portions) for name in ("objects", "s", "cpu_s")})
        if eye.events("landing") or eye.remembered("landing") != objects:
            raise RuntimeError(f"{eye.events('landing')} events, {eye.remembered('landing')} of {objects} remembered")
        ratios = [
            (scan.seconds / objects) / (one["s"] / one["objects"]) for scan, one in zip(scans, bares, strict=True)
        ]
        return {
            "ratio": round(sorted(ratios)[len(ratios) // 2], 3),
            "objects": objects,
            "pairs": pairs,
            "ratios": [round(ratio, 3) for ratio in ratios],
            "scan_s": [round(scan.seconds, 1) for scan in scans],
            "bare_s": [round(one["s"], 1) for one in bares],
            "bare_objects": [one["objects"] for one in bares],
            "cpu_us_per_object": round(1e6 * min(cpu) / objects, 1),
            "bare_cpu_us_per_object": round(1e6 * min(one["cpu_s"] / one["objects"] for one in bares), 1),
            "first_scan_s": round(first.seconds, 1),
            "rss_mb": round(peak.mb, 1),
            "rss_growth_mb": round(peak.mb - small, 1),
            "store_bytes_per_object": round(grown / objects, 1),
        }


def _memory_with_few(folder: Path, server: FakeS3) -> float:
    """Return the peak memory, in MB, of a service that scans few objects, twice."""
    with service(folder, "small", _config(server, "small")) as ours:
        eye = StoreEye(folder / "small")
        peak = Peak(ours)
        peak.during(lambda: eye.baseline("small"), "the first scan of few")
        poll(ours, "small")
        peak.during(lambda: len(server.listings("small")) > 1, "the second scan of few")
        eye.close()
        return peak.mb
