"""Queues under kill -9: `tidegate serve` on SQLite, killed again and again in the middle of a full queue.

    python -m tests.campaigns.queues --messages 2000 --kills 5

For each kind of queue prints what was put in, found, lost and doubled: every message must be exactly one event with one
run key of generation 1, and nothing may be left in the queue.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.aws import running_ministack
from tests.support.azure import running_azurite
from tests.support.postgres import free_port
from tests.support.queue_places import PLACES, QueuePlace
from tests.support.rabbit import running_rabbit

ROOT = Path(__file__).resolve().parents[2]
_SECRETS = ("url", "connection_string")
_WITHIN = 120.0  # seconds; a message in a dead process's hand is hidden for half a minute
SERVERS: Mapping[str, Callable[[], Any]] = {
    "rabbitmq": running_rabbit,
    "ministack": lambda: running_ministack("s3,sqs,sns"),
    "azurite": running_azurite,
}


@dataclass(frozen=True)
class Outcome:
    """What was found in the end. `doubled` counts events and run keys above one per message."""

    put: int
    events: int
    keys: int
    lost: int
    doubled: int
    left: int
    killed_at: tuple[int, ...]

    @property
    def kept(self) -> bool:
        """Say whether the promise was kept."""
        return self.events == self.keys == self.put and not (self.lost or self.doubled or self.left)


class Service:
    """The service as a process in a folder of its own."""

    def __init__(self, folder: Path, place: QueuePlace) -> None:
        options = {**place.options, "kind": place.kind, "format": "json"}
        self._environ: dict[str, str] = {}
        for name in _SECRETS:
            if name in options:
                self._environ["QUEUE_SECRET"], options[name] = options[name], "env:QUEUE_SECRET"
        if "credentials" in options:
            keys = options["credentials"]
            self._environ["QUEUE_SECRET"] = keys["secret_access_key"]
            options["credentials"] = {**keys, "secret_access_key": "env:QUEUE_SECRET"}
        port = free_port()
        config = {
            "service": {"name": "queues", "listen": f"127.0.0.1:{port}", "store": "sqlite:///store.db"},
            "sensors": {"jobs": options},
            "triggers": {"each": {"on": {"sensor": "jobs"}, "run": {"pipeline": "p", "key": "string(event.data.n)"}}},
            "pipelines": {"p": {"concurrency": 1, "tasks": {"wait": {"engine": "command", "argv": ["sleep", "600"]}}}},
        }
        (folder / "tidegate.yaml").write_text(json.dumps(config))
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        environ = {**os.environ, **self._environ, "PYTHONPATH": str(ROOT)}
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tidegate", "serve", cwd=self._folder, env=environ, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await asyncio.wait_for(self._process.wait(), 30)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Look into its store from outside; nothing while there is none."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self._folder}/store.db?mode=ro", uri=True)) as store:
                return store.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return []

    def events(self) -> int:
        """Return how many events there are."""
        found = self.ask("SELECT count(*) FROM events WHERE sensor = 'jobs'")
        return int(found[0][0]) if found else 0

    async def until(self, count: int) -> None:
        """Wait until there are so many events. Raises RuntimeError with the log when it ends, or takes too long."""
        try:
            async with asyncio.timeout(_WITHIN):
                while self.events() < count:
                    if self._process is None or self._process.returncode is not None:
                        raise TimeoutError
                    await asyncio.sleep(0.005)
        except TimeoutError:
            log = (self._folder / "log").read_text()[-3000:]
            raise RuntimeError(f"{self.events()} of {count} events; the service said:\n{log}") from None


async def prove(place: QueuePlace, folder: Path, messages: int, kills: int) -> Outcome:
    """Put messages in, kill the service so often on the way, and say what became of them."""
    service = Service(folder, place)
    killed_at: list[int] = []
    try:
        await place.put(*(b'{"n": %d}' % number for number in range(messages)))
        for number in range(kills):
            await service.start()
            await service.until(max(service.events() + 1, messages * number // (kills + 1)))
            await service.stop()
            killed_at.append(service.events())
        await service.start()
        await service.until(messages)
        await _settled(place, service)
        await service.stop()
        left = await place.unsettled()
    finally:
        await service.stop()
    events = service.events()
    distinct = service.ask("SELECT count(DISTINCT id) FROM events WHERE sensor = 'jobs'")[0][0]
    keys = service.ask("SELECT count(*) FROM run_keys WHERE pipeline = 'p'")[0][0]
    again = service.ask("SELECT count(*) FROM run_keys WHERE pipeline = 'p' AND generation <> 1")[0][0]
    runs = service.ask("SELECT count(*) FROM runs WHERE pipeline = 'p'")[0][0]
    doubled = events - distinct + again + max(0, runs - keys)
    return Outcome(messages, events, keys, messages - keys, doubled, left, tuple(killed_at))


async def _settled(place: QueuePlace, service: Service) -> None:
    """Wait until what a dead process had in hand has come again and is settled, where that can be seen meanwhile."""
    if place.kind == "rabbitmq":  # its messages come again at once; they are counted when the service has stopped
        await asyncio.sleep(1.0)
        return
    async with asyncio.timeout(_WITHIN):
        while await place.unsettled():
            await asyncio.sleep(0.2)


async def _campaign(messages: int, kills: int) -> bool:
    kept = True
    with contextlib.ExitStack() as stack:
        running: dict[str, Any] = {}

        def server(name: str) -> Any:
            if name not in running:
                running[name] = stack.enter_context(SERVERS[name]())
            return running[name]

        for places in PLACES.values():
            for name, make in places.items():
                with tempfile.TemporaryDirectory(prefix="tidegate-queues-") as folder:
                    async with make(server) as place:
                        found = await prove(place, Path(folder), messages, kills)
                kept &= found.kept
                print(
                    f"{name}: put {found.put}, events {found.events}, run keys {found.keys}, lost {found.lost}, "
                    f"doubled {found.doubled}, left in the queue {found.left}; killed at {list(found.killed_at)}",
                    flush=True,
                )
    return kept


def main() -> int:
    """Run it and say whether the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=5)
    asked = parser.parse_args()
    kept = asyncio.run(_campaign(asked.messages, asked.kills))
    print("every message is exactly one event with one run key" if kept else "the promise was broken")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
