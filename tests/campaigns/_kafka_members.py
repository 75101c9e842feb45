"""The members of the kafka campaign: processes of the service that share one store and one consumer group."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns import _house
from tests.campaigns._checker import Violation
from tests.campaigns._kafka_checker import SENSOR, TOPIC, TRIGGER, History
from tests.campaigns._kafka_wire import Wire

GROUP = f"tidegate-gate-{SENSOR}"
SESSION = 6.0  # seconds of silence after which a member's partitions go to the others
_STOPS_WITHIN = 60.0


def configuration(house: Path, store: str, brokers: str, port: int) -> Mapping[str, Any]:
    """Return the configuration of a member. Runs go one at a time, a second each: nearly all wait."""
    return {
        "service": {
            "name": "gate",
            "listen": f"127.0.0.1:{port}",
            "store": store,
            "base": str(house),
            "state_dir": str(house / "state"),
        },
        "sensors": {
            SENSOR: {
                "kind": "kafka",
                "brokers": brokers.split(","),
                "topics": [TOPIC],
                "start": "beginning",
                "session_timeout": f"{SESSION:.0f}s",
            }
        },
        "triggers": {
            TRIGGER: {
                "on": {"sensor": SENSOR, "filter": {"exact": {"data.kind": "hot"}}},
                "run": {"pipeline": "held", "key": "event.data.id"},
                "repeat": "skip",
            }
        },
        "pipelines": {"held": {"concurrency": 1, "tasks": {"wait": {"engine": "command", "argv": ["sleep", "1"]}}}},
    }


class Members:
    """Members by slot. `launcher` replaces `-m tidegate serve` in all of them."""

    def __init__(self, folder: Path, wire: Wire, brokers: str, history: History, launcher: Sequence[str] = ()) -> None:
        self.alive: dict[int, _house.Service] = {}
        self._folder = folder
        self._wire = wire
        self._brokers = brokers
        self._history = history
        self._launcher = launcher
        self._ports: dict[int, int] = {}
        self._lives = 0

    async def start(self, slot: int, *, wait: bool = True) -> None:
        """Start a member; with `wait` until it answers."""
        port = self._ports.setdefault(slot, _house.free_port())
        house = self._folder / f"member-{slot}"
        house.mkdir(exist_ok=True)
        config = configuration(house, self._wire.url, self._brokers, port)
        path = _house.write_config(self._folder, f"member-{slot}", config)
        self._lives += 1
        self.alive[slot] = await _house.start(self._folder, port, path, self._lives, launcher=self._launcher)
        if wait and not await self.alive[slot].ready():
            self._told(slot, "does not become ready")

    async def kill(self, slot: int) -> None:
        """`kill -9`."""
        service = self.alive.pop(slot)
        service.signal(signal.SIGCONT)
        service.signal(signal.SIGKILL)
        await service.process.wait()

    async def stop(self, slot: int) -> None:
        """Ask it to end; it must, and say that all is well."""
        service = self.alive[slot]
        service.signal(signal.SIGTERM)
        code = await service.wait(_STOPS_WITHIN)
        if code != 0:
            self._told(slot, f"was asked to stop and ended with {code}")
        await self.kill(slot)

    async def pause(self, slot: int, seconds: float) -> None:
        """Let it stand still, as a long garbage collection or a frozen machine would, and go on."""
        self.alive[slot].signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.alive[slot].signal(signal.SIGCONT)

    async def close(self) -> None:
        """Kill all."""
        for slot in list(self.alive):
            await self.kill(slot)

    def look(self) -> None:
        """Note those that ended by themselves."""
        for slot, service in list(self.alive.items()):
            if service.process.returncode is not None:
                self._told(slot, f"ended by itself with {service.process.returncode}")
                del self.alive[slot]

    def _told(self, slot: int, what: str) -> None:
        words = self.alive[slot].log.read_text(errors="replace").strip()[-400:]
        self._history.seen.append(Violation("exit", f"member {slot} {what}: {words}"))
