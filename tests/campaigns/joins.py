"""`make joins`: `kill -9` at every step of a join, on SQLite and on PostgreSQL.

`python -m tests.campaigns.joins [--rounds N] [--store sqlite|postgresql] [--seed N]`. Parts of keys are posted, each
until it is acknowledged, while the service is killed again and again; every fifth key never gets its last part. At the
end every complete key must have exactly one run, and every other one exactly one `overdue` decision that names what is
missing; no key may still wait. Prints what was posted and found; exits 1 when a promise was broken.
"""

import argparse
import contextlib
import http.client
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns._doomed import Doomed, store_of

PARTS = ("a", "b", "c")
POINTS = (
    "ingest.begin",
    "ingest.ids",
    "ingest.events",
    "join.met",
    "ingest.runs",
    "ingest.decided",
    "ingest.acked",
    "join.rung",
    "store.begin",
    "store.before_commit",
    "store.after_commit",
)
WITHIN = 25.0  # seconds: more than a key's parts take to be acknowledged, however often the service dies meanwhile
_START, _LIFE = 30.0, 3.0  # seconds until it answers, and that it lives then unless it dies at its point
_CONFIG = """
service: {{name: joins, listen: "127.0.0.1:{port}", store: "{store}"}}
sensors: {{in: {{kind: webhook, path: /in, verify: none, id: body.id}}}}
triggers:
  together:
    join: {{of: {{{parts}}}, within: {within}s}}
    run: {{pipeline: p, key: key, params: {{parts: "${{{{ events.map(e, e.data.part) }}}}"}}}}
pipelines: {{p: {{engine: command, argv: ["true"]}}}}
"""


def _parts() -> str:
    return ", ".join(
        f"{part}: {{sensor: in, by: event.data.key, filter: {{exact: {{data.part: {part}}}}}}}" for part in PARTS
    )


@dataclass(slots=True)
class Key:
    """A key: the parts that were acknowledged, when the first was sent first, and when the last was acknowledged."""

    parts: list[str]
    sent: float
    acknowledged: float

    @property
    def stretched(self) -> bool:
        """Say whether its parts took so long that it may be overdue by right."""
        return self.acknowledged - self.sent >= WITHIN - 1


def campaign(service: Doomed, rounds: int, seed: int) -> tuple[dict[str, Key], Counter[str]]:
    """Post and kill; return every key of which a part was acknowledged, and how often which point killed."""
    dice, kills = random.Random(seed), Counter[str]()
    keys: dict[str, Key] = {}
    posts = _posts(dice)
    waiting, since = next(posts), time.monotonic()

    def post() -> bool:
        """Post the part that waits; say whether it was acknowledged."""
        nonlocal waiting, since
        key, part = waiting
        with contextlib.suppress(OSError, http.client.HTTPException):
            if service.ask("POST", "/in", {"id": f"{key}/{part}", "key": key, "part": part})[0] == 202:
                known = keys.setdefault(key, Key([], since, 0.0))
                known.parts.append(part)
                known.acknowledged = since = time.monotonic()
                waiting = next(posts)
                return True
        return False

    for number in range(rounds):
        point = POINTS[number % len(POINTS)]
        service.start(f"{point}:{dice.randint(1, 12)}")
        until = time.monotonic() + _START
        lived = False
        while service.alive and time.monotonic() < until:
            if not post():
                time.sleep(0.02)
            elif not lived:
                lived, until = True, time.monotonic() + _LIFE
        kills[point if not service.alive else "from outside"] += 1
        service.kill()
    service.start()
    while waiting[0] in keys:  # complete the key in hand
        if not post():
            time.sleep(0.02)
    return keys, kills


def _posts(dice: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (key, part) for ever; every fifth key never gets its last part."""
    number = 0
    while True:
        parts = dice.sample(PARTS, len(PARTS))
        for part in parts if number % 5 else parts[:-1]:
            yield f"k{number:05}", part
        number += 1


def verify(service: Doomed, keys: dict[str, Key]) -> list[str]:
    """Wait until every deadline has passed; return what is not as promised."""
    deadline = time.monotonic() + WITHIN + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if not service.all("triggers/together/decisions?outcome=waiting"):
                break
        time.sleep(0.5)
    runs = Counter(run["key"] for run in service.all("runs?pipeline=p"))
    overdue = {
        row["details"]["key"]: row["details"]["missing"]
        for row in service.all("triggers/together/decisions?outcome=overdue")
    }
    broken = [
        f"{row['details']['key']} still waits" for row in service.all("triggers/together/decisions?outcome=waiting")
    ]
    for key, known in keys.items():
        missing = sorted(set(PARTS) - set(known.parts))
        if known.stretched:
            continue
        if runs[key] != (0 if missing else 1):
            broken.append(f"{key} got {', '.join(known.parts)} and has {runs[key]} runs")
        if overdue.get(key, []) != missing:
            broken.append(f"{key} lacks {missing} and is overdue for {overdue.get(key)}")
    return broken


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="joins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=66)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    worst = 0
    for name in ("sqlite", "postgresql") if options.store is None else (options.store,):
        with tempfile.TemporaryDirectory(prefix="tidegate-joins-") as folder, store_of(name) as store:
            service = Doomed(Path(folder), _CONFIG, store=store, parts=_parts(), within=f"{WITHIN:.0f}")
            try:
                keys, kills = campaign(service, options.rounds, options.seed)
                broken = verify(service, keys)
            except Exception:
                print(service.tail())
                raise
            finally:
                service.kill()
        parts, stretched = sum(len(key.parts) for key in keys.values()), sum(key.stretched for key in keys.values())
        print(f"joins {name}: {len(keys)} keys, {parts} parts acknowledged, {stretched} keys took too long to tell")
        print(f"killed {dict(sorted(kills.items()))}")
        print("\n".join(broken[:20]) or "every complete key ran once, every other one was overdue once, none waits")
        worst |= bool(broken)
    return worst


if __name__ == "__main__":
    sys.exit(main())
