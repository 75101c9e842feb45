"""`make joins`: `kill -9` at every step of a join, on SQLite and on PostgreSQL.

`python -m tests.campaigns.joins [--rounds N] [--store sqlite|postgresql] [--seed N]`. Parts of keys are posted, each
until it is acknowledged, while the service is killed again and again; every fifth key never gets its last part. At the
end every complete key must have exactly one run, and every other one exactly one `overdue` decision that names what is
missing; no key may still wait. Prints what was posted and found; exits 1 when a promise was broken.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.postgres import fresh_database, running_server
from tests.support.service import ROOT

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
    join: {{of: {{{parts}}}, within: {within:.0f}s}}
    run: {{pipeline: p, key: key, params: {{parts: "${{{{ events.map(e, e.data.part) }}}}"}}}}
pipelines: {{p: {{engine: command, argv: ["true"]}}}}
"""


class Doomed:
    """The service as a process that is killed."""

    def __init__(self, folder: Path, store: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        parts = ", ".join(
            f"{part}: {{sensor: in, by: event.data.key, filter: {{exact: {{data.part: {part}}}}}}}" for part in PARTS
        )
        self._file = folder / "tidegate.yaml"
        self._file.write_text(_CONFIG.format(port=self._port, store=store, parts=parts, within=WITHIN))
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, fail_point: str = "") -> None:
        """Start it; it dies by itself at the point that is named."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TIDEGATE_FAILPOINT": fail_point}
        command = [sys.executable, "-m", "tidegate", "serve", self._file.name]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._file.parent, env=environ, stdout=log, stderr=log)

    @property
    def alive(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask once. Raises OSError or HTTPException when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def all(self, path: str) -> list[dict[str, Any]]:
        """Read a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            _, page = self.ask("GET", f"/api/v1/{path}&limit=200{cursor}")
            found += page["items"]
            if not page["cursor"]:
                return found
            cursor = f"&cursor={page['cursor']}"

    def tail(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-3_000:]


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


@contextlib.contextmanager
def _store(name: str) -> Iterator[str]:
    if name == "sqlite":
        yield "sqlite:///joins.db"
        return
    with running_server() as server, fresh_database(server) as url:
        yield url


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="joins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=66)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default=None)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    worst = 0
    for name in ("sqlite", "postgresql") if options.store is None else (options.store,):
        with tempfile.TemporaryDirectory(prefix="tidegate-joins-") as folder, _store(name) as store:
            service = Doomed(Path(folder), store)
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
