"""The service as users start it: the command line as a process, in a folder of its own, asked over HTTP."""

import asyncio
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]


class QuickstartService:
    """`tidegate serve config/quickstart.yaml` in a copy below `folder`, with a free port."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._starts = 0
        (folder / "config").mkdir()
        self.inbox.mkdir()
        shutil.copy(ROOT / "config" / "quickstart.yaml", folder / "config")
        shutil.copytree(ROOT / "examples" / "01-orders", folder / "examples" / "01-orders")
        (folder / "examples" / "__init__.py").touch()  # or the package of the checkout would be preferred
        (folder / "config" / "port.yaml").write_text(
            f"service: {{listen: '127.0.0.1:{self.port}', dispatch: {{lease: 2s, grace: 500ms}}}}\n"
        )

    @property
    def log(self) -> str:
        """Return all that it said."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("log-*")))

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self._starts += 1
        environ = {**os.environ, **self._environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"log-{self._starts}").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tidegate", "serve", "config/quickstart.yaml", "--overlay", "config/port.yaml"),
                cwd=self.folder,
                env=environ,
                stdout=log,
                stderr=log,
            )
        await self.until(self._ready)

    async def _ready(self) -> bool:
        try:
            return (await self.ask("GET", "/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def until(self, holds: Callable[[], Awaitable[Any]], seconds: float = 40.0) -> Any:
        """Ask until the answer is true, and return it. AssertionError with the log when that takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while not (answer := await holds()):
                    assert self._process is not None
                    assert self._process.returncode is None, self.log
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not so within {seconds:.0f} s; the service said:\n{self.log}") from None
        return answer

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request; return status and JSON."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, data=body, headers=headers) as answer,
        ):
            return answer.status, json.loads(await answer.read() or b"null")

    async def read(self, path: str) -> Any:
        """Read from the API."""
        status, found = await self.ask("GET", f"/api/v1/{path}")
        assert status == 200, found
        return found

    async def post_order(self, order: Mapping[str, Any], secret: str = "quickstart-secret") -> tuple[int, Any]:
        """Post a signed order."""
        body = json.dumps(order).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Signature": signature, "Content-Type": "application/json"}
        return await self.ask("POST", "/hooks/orders", body, headers)

    async def ended_runs(self, count: int) -> list[Any]:
        """Wait until there are so many runs and all have ended; return them in full, oldest first."""

        async def found() -> list[Any]:
            runs: list[Any] = (await self.read("runs?limit=100"))["items"]
            ended = all(run["state"] in ("succeeded", "failed", "cancelled") for run in runs)
            return runs if ended and len(runs) >= count else []

        runs = await self.until(found)
        return [await self.read(f"runs/{run['uid']}") for run in reversed(runs)]

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), 30)

    async def end(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
