"""`make replays`: replays under `kill -9` at every step, on SQLite and on PostgreSQL; and one over a million events.

`python -m tests.campaigns.replays [--rounds N] [--events N] [--store sqlite|postgresql] [--seed N]`. First the service
is killed again and again while replays of all kinds are worked at; at the end every event has exactly one run of each
replay for each element, and the counts are exact. Then a dry run over so many stored events, and a replay of a tenth of
them: prints events and runs per second and by how much memory grew. Exits 1 when a promise was broken.
"""

import argparse
import asyncio
import contextlib
import http.client
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from sensors.uid import EVENT, UidSeries
from tests.campaigns._doomed import Doomed
from tests.support.postgres import fresh_database, running_server
from tests.support.replaying import Replaying
from tests.support.stores import do
from tests.support.works import T0, Works, make_config, make_event, make_trigger, open_works
from tidegate.store.records import StoredEvent
from tidegate.store.replay_records import Replay

POINTS = (
    "replay.begun",
    "replay.started",
    "replay.moved",
    "store.begin",
    "store.before_commit",
    "store.after_commit",
)
EVENTS, ELEMENTS = 120, 3  # of the first part: posted before anything is killed
_START, _LIFE = 30.0, 2.0  # seconds until it answers, and that it lives then unless it dies at its point
_CONFIG = """
service: {{name: again, listen: "127.0.0.1:{port}", store: "{store}", dispatch: {{lease: 2s, grace: 0s}}}}
sensors: {{in: {{kind: webhook, path: /in, verify: none, id: string(body.id)}}}}
triggers:
  each: {{on: {{sensor: in}}, each: event.data.items, run: {{pipeline: p, key: 'event.id + "/" + string(item)'}}}}
  bare: {{on: {{sensor: in}}, run: {{pipeline: p}}}}
pipelines: {{p: {{engine: command, argv: [sleep, "600"], concurrency: 1}}}}
"""
SINCE = "2020-01-01T00:00:00Z"
ASKS: Sequence[tuple[dict[str, Any], int]] = (  # a replay, and how many runs it stands for
    ({"trigger": "each", "since": SINCE}, EVENTS * ELEMENTS),
    ({"trigger": "bare", "since": SINCE, "rate": "60/s"}, EVENTS),
    ({"trigger": "each", "since": SINCE, "as_was": True, "rate": "150/s"}, EVENTS * ELEMENTS),
)


def kills(service: Doomed, store: str, rounds: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Kill while replays are worked at; return what is not as promised, and which point killed how often."""
    dice, killed = random.Random(seed), Counter[str]()
    service._file.write_text(_CONFIG.format(port=service._port, store=store))
    service.start()
    for number in range(EVENTS):
        body = {"id": number, "items": list(range(ELEMENTS))}
        _until(lambda body=body: service.ask("POST", "/in", body)[0] == 202)  # type: ignore[misc]
    asked: list[tuple[str, int]] = []
    for number in range(rounds):
        service.kill()
        point = POINTS[number % len(POINTS)]
        service.start(f"{point}:{dice.randint(1, 12)}")
        until, lived = time.monotonic() + _START, False
        while service.alive and time.monotonic() < until:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if not lived:
                    service.ask("GET", "/readyz")
                    lived, until = True, time.monotonic() + _LIFE
                if len(asked) <= number // 3:
                    what, runs = ASKS[len(asked) % len(ASKS)]
                    status, found = service.ask("POST", "/api/v1/replays", {**what, "request_id": f"r{len(asked)}"})
                    if status in (200, 201):
                        asked.append((found["uid"], runs))
            time.sleep(0.02)
        killed[point if not service.alive else "from outside"] += 1
    service.kill()
    service.start()
    _until(lambda: all(replay["state"] == "succeeded" for replay in service.all("replays?")), 180)
    return _broken(service, asked), killed


def _broken(service: Doomed, asked: Sequence[tuple[str, int]]) -> list[str]:
    broken = []
    replays = service.all("replays?")
    if sorted(replay["uid"] for replay in replays) != sorted(uid for uid, _ in asked):
        broken.append(f"{len(asked)} replays were asked for and {len(replays)} are there")
    for uid, runs in asked:
        counts = next(replay["counts"] for replay in replays if replay["uid"] == uid)
        items = [
            (row["cause"], row["trigger"], row["rule"], row["item"]) for row in service.all(f"replays/{uid}/runs?")
        ]
        if counts.get("started") != runs or len(items) != runs or len(set(items)) != runs:
            broken.append(
                f"{uid} stands for {runs} runs, counts {counts} and has {len(items)}, {len(set(items))} apart"
            )
    return broken


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return
        time.sleep(0.02)
    raise AssertionError("it did not come about in time")


async def million(url: str, events: int) -> list[str]:
    """Dry run over many events, and a replay of a tenth of them; print rates and memory, return what is wrong."""
    rule = {"key": "event.id", "params": {"n": "${{ event.data.n }}"}}
    config = make_config([make_trigger(when="event.data.n % 2 == 0", run=rule)])
    async with open_works(url, config) as house:
        started = time.monotonic()
        await _fill(house, events)
        print(f"  {events:,} events stored in {time.monotonic() - started:.0f} s", flush=True)
        replaying = Replaying(house)
        dry = await _measured(replaying, "dry run", "looked", trigger="t", since=T0 - 1, dry_run=True)
        tenth = await _measured(replaying, "replay", "started", trigger="t", since=T0 - 1, until=T0 + events // 10)
    wanted = {"looked": events, "started": events // 2, "filtered": events - events // 2}
    few = {"looked": events // 10, "started": events // 20, "filtered": events // 10 - events // 20}
    return [
        f"{what} came to {dict(replay.counts)}, not {counts}"
        for what, replay, counts in (("the dry run", dry, wanted), ("the replay", tenth, few))
        if dict(replay.counts) != counts
    ]


async def _fill(house: Works, events: int) -> None:
    """Store events without judging them."""
    uid = UidSeries(EVENT, T0)
    for start in range(0, events, 2_000):
        some = [
            StoredEvent(
                make_event(
                    str(n), uid=uid(), received_at=T0 + n, data=b'{"n": %d}' % n, content_type="application/json"
                )
            )
            for n in range(start, min(start + 2_000, events))
        ]
        await do(house.store, lambda tx, some=some: tx.insert_events(some))  # type: ignore[misc]


async def _measured(replaying: Replaying, what: str, count: str, **spec: Any) -> Replay:
    process = psutil.Process()
    spec.setdefault("until", T0 + 10**12)
    uid = await replaying.start(**spec)
    for _ in range(20):  # what grows once, at the beginning
        await replaying.step()
    before, started = process.memory_info().rss, time.monotonic()
    begun = (await replaying.replay(uid)).counts.get(count, 0)
    replaying.works.facts.clear()
    while not (await replaying.replay(uid)).state.final:
        await replaying.step()
        replaying.works.facts.clear()
    seconds = time.monotonic() - started
    replay = await replaying.replay(uid)
    grown = (process.memory_info().rss - before) / 2**20
    rate = (replay.counts[count] - begun) / seconds
    print(f"  {what}: {dict(replay.counts)}, {rate:,.0f} {count}/s, memory grew by {grown:.1f} MiB", flush=True)
    if grown > 64:
        raise AssertionError(f"the {what} is not bounded in memory: it grew by {grown:.0f} MiB")
    return replay


@contextlib.contextmanager
def _store(name: str, file: str) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{file}"
        return
    with running_server() as server, fresh_database(server) as url:
        yield url


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="replays", description=__doc__)
    parser.add_argument("--rounds", type=int, default=36, help="kills on each store")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the long replay (SQLite)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    worst: list[str] = []
    for name in ("sqlite", "postgresql") if options.store is None else (options.store,):
        with tempfile.TemporaryDirectory(prefix="tidegate-replays-") as folder, _store(name, "again.db") as store:
            service = Doomed(Path(folder), store)
            try:
                broken, killed = kills(service, store, options.rounds, options.seed)
            except Exception:
                print(service.tail())
                raise
            finally:
                service.kill()
        print(f"replays {name}: {EVENTS} events, killed {dict(sorted(killed.items()))}")
        print("\n".join(broken[:20]) or "  everything that a replay stands for has exactly one run", flush=True)
        worst += broken
    if options.events:
        with tempfile.TemporaryDirectory(prefix="tidegate-replays-") as folder:
            broken = asyncio.run(million(f"sqlite:///{folder}/many.db", options.events))
        print("\n".join(broken) or "  the counts are exact", flush=True)
        worst += broken
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
