"""The service as a process that is killed, again and again, and asked in between; and the stores on which it lives."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.postgres import fresh_database, running_server
from tests.support.service import ROOT


class Doomed:
    """The service as a process that is killed."""

    def __init__(self, folder: Path, config: str, **values: str) -> None:
        """`config` is the configuration as a format with `port` and `values`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._file = folder / "tidegate.yaml"
        self._file.write_text(config.format(port=self._port, **values))
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


@contextlib.contextmanager
def store_of(name: str) -> Iterator[str]:
    """Return the URL of an empty store: `sqlite` in the folder of the configuration, or `postgresql`."""
    if name == "sqlite":
        yield "sqlite:///campaign.db"
        return
    with running_server() as server, fresh_database(server) as url:
        yield url
