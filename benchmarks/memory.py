"""Memory and start: how soon is the service ready, what does it hold idle, and does it grow over 100,000 webhooks?"""

import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import LOAD_CORE, free_port, running, service, signature, workspace
from benchmarks.webhook import BODY, _config, _wrk

EVENTS = 100_000


def measure(events: int = EVENTS) -> Mapping[str, Any]:
    """Return seconds to ready, idle RSS, and RSS after a first 10,000 and after 100,000 webhooks, in MB."""
    with workspace() as folder:
        otlp = free_port()
        with running(
            [sys.executable, "-m", "benchmarks.sink", str(otlp)],
            f"http://127.0.0.1:{otlp}",
            "/",
            folder,
            core=LOAD_CORE,
        ) as sink:
            config = _config(telemetry={"otlp": {"endpoint": sink.url}})
            with service(folder, "first", config) as process:
                first_start = process.ready_s
            with service(folder, "memory", config) as process:
                ready = process.ready_s
                time.sleep(3)
                idle = process.rss_mb()
                script = folder / "post.lua"
                headers = {"Content-Type": "application/json", "X-Signature": signature(BODY)}
                lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
                script.write_text(f'wrk.method = "POST"\nwrk.body = [[{BODY.decode()}]]\n{lines}\n')
                done, samples = 0.0, []
                while done < events:
                    done += _wrk(process, script, 4)["per_s"] * 4
                    samples.append((round(done), round(process.rss_mb(), 1)))
                return {
                    "ratio": None,
                    "ready_s": round(ready, 2),
                    "first_start_s": round(first_start, 2),
                    "rss_mb": round(idle, 1),
                    "rss_growth_mb": round(samples[-1][1] - samples[0][1], 1),
                    "rss_by_events": samples,
                }
