"""Replicas: several processes of the service over one PostgreSQL, started, frozen, woken and killed by a test."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]


class Replica:
    """`tidegate serve` on a configuration, on a port of its own."""

    def __init__(self, folder: Path, name: str, config: Path) -> None:
        self.port = free_port()
        self._config = config
        self._overlay = folder / f"{name}.yaml"
        self._overlay.write_text(f"service: {{listen: '127.0.0.1:{self.port}'}}\n")
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tidegate", "serve", str(self._config), "--overlay", str(self._overlay)),
                cwd=self._config.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        await self.until(self._ready)

    async def _ready(self) -> bool:
        try:
            await self.read("sensors")
        except aiohttp.ClientError:
            return False
        return True

    async def read(self, path: str) -> Any:
        """Read from the API."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=aiohttp.ClientTimeout(5)) as answer,
        ):
            return json.loads(await answer.read())

    async def health(self) -> dict[str, tuple[str, str]]:
        """Return state and reason of each sensor."""
        items = (await self.read("sensors"))["items"]
        return {item["name"]: (item["health"]["state"], item["health"]["reason"]) for item in items}

    async def until(self, holds: Callable[[], Awaitable[Any]], seconds: float = 40.0) -> Any:
        """Ask until the answer is true, and return it. AssertionError with the log when that takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while not (answer := await holds()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not so within {seconds:.0f} s; it said:\n{self._log.read_text()}") from None
        return answer

    async def has_all(self) -> bool:
        """Say whether it reads all sensors."""
        return all(state == "healthy" for state, _ in (await self.health()).values())

    async def stands_by(self) -> bool:
        """Say whether it reads none, because another does."""
        found = (await self.health()).values()
        return all(state == "standby" and reason.startswith("read by ") for state, reason in found)

    def send(self, how: signal.Signals) -> None:
        """Freeze, wake or kill it."""
        assert self._process is not None
        self._process.send_signal(how)

    async def end(self) -> None:
        """Kill it, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
