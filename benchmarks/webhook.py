"""Durable webhook accept against a bare FastAPI no-op: how much does durability cost?

Ours: HMAC verified, the event committed (SQLite, synchronous=FULL) before 202, one trigger judged by its filter.
Compared are tracing on (every accepted event its spans, exported over OTLP to a receiver on the other core), tracing
off, and PostgreSQL. All servers live at once, pinned to one core, and are loaded in turn by wrk from the other.
"""

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import (
    LOAD_CORE,
    Process,
    fdatasync_ms,
    free_port,
    pin,
    running,
    service,
    signature,
    webhook_sensor,
    workspace,
)

BODY = json.dumps(
    {
        "id": "order-1",
        "customer": "acme",
        "amount": 12.5,
        "lines": [{"sku": "a-1", "quantity": 2}, {"sku": "b-2", "quantity": 1}],
    }
).encode()
CONNECTIONS = 64
_PIPELINE = {"noop": {"engine": "command", "argv": ["true"]}}
_TRIGGERS = {
    "never": {"on": {"sensor": "hooks", "filter": {"exact": {"data.customer": "nobody"}}}, "run": {"pipeline": "noop"}}
}


def _config(**more: Any) -> Mapping[str, Any]:
    return {"sensors": {"hooks": webhook_sensor()}, "triggers": _TRIGGERS, "pipelines": _PIPELINE, **more}


def measure(rounds: int = 5, seconds: int = 4) -> Mapping[str, Any]:
    """Load all servers in turn; return ratios (ours ÷ bare, pair by pair, medians) and the raw figures."""
    with workspace() as folder, contextlib.ExitStack() as stack:
        script = folder / "post.lua"
        headers = {"Content-Type": "application/json", "X-Signature": signature(BODY)}
        lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
        script.write_text(f'wrk.method = "POST"\nwrk.body = [[{BODY.decode()}]]\n{lines}\n')
        sink_port, bare_port = free_port(), free_port()
        sink = stack.enter_context(
            running(
                [sys.executable, "-m", "benchmarks.sink", str(sink_port)],
                f"http://127.0.0.1:{sink_port}",
                "/",
                folder,
                core=LOAD_CORE,
            )
        )
        otlp = {"telemetry": {"otlp": {"endpoint": sink.url}}}
        servers: dict[str, Process] = {
            "bare": stack.enter_context(
                running(
                    [sys.executable, "-m", "benchmarks.baseline", str(bare_port)],
                    f"http://127.0.0.1:{bare_port}",
                    "/readyz",
                    folder,
                )
            ),
            "traced": stack.enter_context(service(folder, "traced", _config(**otlp))),
            "untraced": stack.enter_context(service(folder, "untraced", _config())),
        }
        from benchmarks.postgres import database

        url = stack.enter_context(database(folder))
        servers["postgres"] = stack.enter_context(service(folder, "postgres", _config(service={"store": url}, **otlp)))
        for process in servers.values():
            _wrk(process, script, 2)
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, process in servers.items():
                figures[name].append(_wrk(process, script, seconds))
        durable = _events(servers["traced"])
        spans = json.loads(urllib.request.urlopen(sink.url, timeout=5).read())

        def ratio(name: str) -> float:
            pairs = zip(figures[name], figures["bare"], strict=True)
            return round(statistics.median(ours["per_s"] / bare["per_s"] for ours, bare in pairs), 3)

        return {
            "ratio": ratio("traced"),
            "ratio_untraced": ratio("untraced"),
            "ratio_postgres": ratio("postgres"),
            "per_s": round(statistics.median(run["per_s"] for run in figures["traced"])),
            "p50_ms": round(statistics.median(run["p50_ms"] for run in figures["traced"]), 2),
            "p99_ms": round(statistics.median(run["p99_ms"] for run in figures["traced"]), 2),
            "cpu_us_per_event": {
                name: round(statistics.median(run["cpu_us"] for run in runs), 1) for name, runs in figures.items()
            },
            "per_s_all": {name: [round(run["per_s"]) for run in runs] for name, runs in figures.items()},
            "errors": {name: sum(run["errors"] for run in runs) for name, runs in figures.items()},
            "rss_mb": {name: round(process.rss_mb(), 1) for name, process in servers.items()},
            "events_durable_and_accepted": durable,
            "spans": _spans(servers["traced"]),
            "otlp_bytes": spans["bytes"],
            "fdatasync_ms": round(fdatasync_ms(folder), 3),
        }


def _spans(process: Process) -> Mapping[str, int]:
    """Say what became of the spans of the traced server, after a moment for what still waits."""
    time.sleep(6)
    text = urllib.request.urlopen(process.url + "/metrics", timeout=10).read().decode()
    found = {"exported": 0.0, "dropped": 0.0}
    for line in text.splitlines():
        for what in found:
            if line.startswith(f"tidegate_telemetry_{what}_spans"):
                found[what] += float(line.rsplit(" ", 1)[1])
    return {what: int(n) for what, n in found.items()}


def _wrk(process: Process, script: Path, seconds: int) -> dict[str, float]:
    """Load one server for some seconds; return requests a second, latencies, errors and CPU per request."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: run scripts/system-packages as root, or install the Debian package wrk")
    cpu = process.cpu_s()
    out = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(script),
            process.url + "/hooks/bench",
        ],
        capture_output=True,
        text=True,
        check=True,
        **pin(LOAD_CORE),
    ).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", out)
    if found is None:
        raise RuntimeError(f"wrk printed no count: {out}")
    n = int(found.group(1))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    return {
        "per_s": float(rate.group(1)) if rate else 0.0,
        "p50_ms": _ms(out, "50%"),
        "p99_ms": _ms(out, "99%"),
        "errors": int(errors.group(1)) if errors else 0,
        "cpu_us": (process.cpu_s() - cpu) / max(1, n) * 1e6,
    }


def _ms(out: str, label: str) -> float:
    found = re.search(rf"{re.escape(label)}\s+([\d.]+)(us|ms|s)", out)
    if found is None:
        return float("nan")
    return float(found.group(1)) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found.group(2)]


def _events(process: Process) -> Mapping[str, int]:
    """Compare what was answered 202 with what stands in the database: accepted is what the service counted."""
    text = urllib.request.urlopen(process.url + "/metrics", timeout=10).read().decode()
    counted = sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("tidegate_sensor_events") and 'outcome="stored"' in line
    )
    import sqlite3

    path = process.log.parent / "traced" / "tidegate.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (stored,) = db.execute("select count(*) from events").fetchone()
    return {"accepted": int(counted), "stored": int(stored)}
