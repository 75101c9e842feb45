"""`make flows`: `kill -9` at every step of the flow control, on SQLite and on PostgreSQL.

`python -m tests.campaigns.flows [--rounds N] [--store sqlite|postgresql] [--seed N]`. Events of a few keys are posted,
each until it is acknowledged, while the service is killed again and again. Three triggers take all of them: a batch, a
throttle that holds, and a debounce. At the end every acknowledged event must be in exactly one run of each, no batch
may have more events than allowed, none may still wait, and runs of one lane may neither overlap nor overtake. Prints
what was posted and found; exits 1 when a promise was broken.
"""

import argparse
import contextlib
import http.client
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.campaigns._doomed import Doomed, store_of

POINTS = (
    "ingest.begin",
    "ingest.ids",
    "ingest.events",
    "flow.passed",
    "ingest.runs",
    "ingest.decided",
    "ingest.acked",
    "flow.rung",
    "dispatch.claimed",
    "dispatch.before_advance",
    "store.begin",
    "store.before_commit",
    "store.after_commit",
)
TRIGGERS = {"batched": "p", "lined": "q", "quiet": "r"}
COUNT = 4
_START, _LIFE = 30.0, 3.0  # seconds until it answers, and that it lives then unless it dies at its point
_CONFIG = """
service: {{name: flows, listen: "127.0.0.1:{port}", store: "{store}", dispatch: {{lease: 3s, grace: 1s}}}}
sensors: {{in: {{kind: webhook, path: /in, verify: none, id: body.id}}}}
triggers:
  batched:
    on: {{sensor: in}}
    batch: {{count: {count}, within: 2s, by: event.data.key}}
    run: {{pipeline: p, lane: key}}
  lined:
    on: {{sensor: in}}
    throttle: {{rate: 20/1s, burst: 2, by: event.data.key, over: hold}}
    run: {{pipeline: q, lane: event.data.key}}
  quiet:
    on: {{sensor: in}}
    debounce: {{quiet: 500ms, max_wait: 2s, by: event.data.key}}
    run: {{pipeline: r, lane: key}}
pipelines:
  p: {{engine: command, argv: ["true"]}}
  q: {{engine: command, argv: ["true"]}}
  r: {{engine: command, argv: ["true"]}}
"""


def campaign(service: Doomed, rounds: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Post and kill; return the uids of acknowledged events, and how often which point killed."""
    dice, kills = random.Random(seed), Counter[str]()
    acknowledged: list[str] = []
    number = 0

    def post() -> bool:
        """Post the event that waits; say whether it was acknowledged."""
        nonlocal number
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, answer = service.ask("POST", "/in", {"id": f"e{number:06}", "key": f"k{number % 5}"})
            if status == 202:
                acknowledged.append(answer["events"][0]["event"])
                number += 1
                return True
        return False

    for turn in range(rounds):
        point = POINTS[turn % len(POINTS)]
        service.start(f"{point}:{dice.randint(1, 12)}")
        until, lived = time.monotonic() + _START, False
        while service.alive and time.monotonic() < until:
            if not post():
                time.sleep(0.02)
            elif not lived:
                lived, until = True, time.monotonic() + _LIFE
            else:
                time.sleep(dice.choice((0.0, 0.0, 0.05)))
        kills[point if not service.alive else "from outside"] += 1
        service.kill()
    service.start()
    while not post():
        time.sleep(0.02)
    return acknowledged, kills


def verify(service: Doomed, acknowledged: Sequence[str]) -> list[str]:
    """Wait until nothing waits any more; return what is not as promised."""
    deadline = time.monotonic() + 120
    waits: list[list[dict[str, Any]]] = []
    runs: list[list[dict[str, Any]]] = []
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            waits = [service.all(f"triggers/{name}/decisions?outcome={how}") for name, how in _WAITS]
            runs = [service.all(f"runs?state={state}") for state in ("queued", "running")]
            if not any(waits) and not any(runs):
                break
        time.sleep(0.5)
    else:
        return [f"{len(rows)} still wait or go on, such as {rows[0]}" for rows in (*waits, *runs) if rows]
    broken: list[str] = []
    for trigger, pipeline in TRIGGERS.items():
        fired = service.all(f"triggers/{trigger}/decisions?outcome=fired")
        found = Counter(event for row in fired for event in row["events"])
        lost = [event for event in acknowledged if not found[event]]
        twice = [event for event, n in found.items() if n > 1]
        broken += [f"{trigger}: {len(lost)} lost, such as {lost[0]}"] if lost else []
        broken += [f"{trigger}: {len(twice)} in several runs, such as {twice[0]}"] if twice else []
        largest = max((len(row["events"]) for row in fired), default=0)
        broken += [f"{trigger}: a batch of {largest}"] if trigger == "batched" and largest > COUNT else []
        runs_ = service.all(f"runs?pipeline={pipeline}")
        broken += [f"{trigger}: {len(fired)} fired, {len(runs_)} runs"] if len(fired) != len(runs_) else []
        broken += _lanes(trigger, runs_)
    return broken


_WAITS = (("batched", "buffered"), ("lined", "held"), ("quiet", "buffered"))


def _lanes(trigger: str, newest_first: Sequence[dict[str, str]]) -> list[str]:
    """Return where runs of one lane overlapped or overtook."""
    broken = []
    lanes: dict[str, list[dict[str, str]]] = {}
    for run in reversed(newest_first):
        lanes.setdefault(run["lane"], []).append(run)
    for lane, runs in lanes.items():
        for one, other in itertools.pairwise(runs):
            if other["started_at"] < one["finished_at"]:
                broken.append(f"{trigger}: {other['uid']} began before {one['uid']} of lane {lane} had ended")
    return broken


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="flows", description=__doc__)
    parser.add_argument("--rounds", type=int, default=52)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    worst = 0
    for name in ("sqlite", "postgresql") if options.store is None else (options.store,):
        with tempfile.TemporaryDirectory(prefix="tidegate-flows-") as folder, store_of(name) as store:
            service = Doomed(Path(folder), _CONFIG, store=store, count=str(COUNT))
            try:
                acknowledged, kills = campaign(service, options.rounds, options.seed)
                broken = verify(service, acknowledged)
            except Exception:
                print(service.tail())
                raise
            finally:
                service.kill()
        print(f"flows {name}: {len(acknowledged)} events acknowledged; killed {dict(sorted(kills.items()))}")
        print("\n".join(broken[:20]) or "each in exactly one run of each trigger, none waits, lanes kept their order")
        worst |= bool(broken)
    return worst


if __name__ == "__main__":
    sys.exit(main())
