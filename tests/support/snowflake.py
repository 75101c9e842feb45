"""A Snowflake for tests: fakesnow, which answers the official driver over its own protocol, on a free loopback port."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.azure import await_http
from tests.support.postgres import free_port


@dataclass(frozen=True)
class Snowflake:
    """A running server; everybody who connects sees the same databases."""

    port: int
    pid: int

    @property
    def connection(self) -> dict[str, Any]:
        """Return the entry of `connections` that reaches it."""
        return {
            "kind": "snowflake",
            "account": "fakesnow",
            "user": "loader",
            "password": "any",
            "host": "127.0.0.1",
            "port": self.port,
            "protocol": "http",
        }


@contextlib.contextmanager
def running_snowflake() -> Iterator[Snowflake]:
    """Start the server; stop it by pid."""
    port = free_port()
    program = Path(sys.executable).parent / "fakesnow"
    with tempfile.TemporaryDirectory(prefix="tidegate-fakesnow-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(program), "-s", "-p", str(port), "--host", "127.0.0.1"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "HOME": folder},
            )
        try:
            await_http(f"http://127.0.0.1:{port}/", process, log)
            yield Snowflake(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
