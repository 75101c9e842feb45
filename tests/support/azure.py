"""Azure Storage for tests: Azurite (blob and queue) as a process on free loopback ports, in memory.

`scripts/azurite` puts Azurite into `build/azurite` once (`make test` calls it beforehand, since it takes a minute).
Azurite has no Data Lake endpoint: `tests.support.dfs_gateway`, which is ours, stands before its blob endpoint.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import free_port

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "build" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
MISSING = "Azurite is not installed: it needs Node.js with npm (`apt-get install npm`), then `make azurite`."


class AzuriteMissing(Exception):
    """There is no Azurite to test against; the sentence says how to get it."""


@dataclass(frozen=True)
class Azurite:
    """A running account. The URLs contain the account's name (`http://127.0.0.1:P/devstoreaccount1`).

    `blob_url` is the gateway when there is one: it answers blob and Data Lake calls alike, as the SDK wants it.
    """

    blob_url: str
    queue_url: str
    pid: int
    account: str = ACCOUNT
    key: str = KEY

    @property
    def connection_string(self) -> str:
        """Return what the SDKs take; for Data Lake only when `blob_url` is the gateway."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )


def install() -> Path:
    """Return the program's path, after installing it if need be. Raises AzuriteMissing."""
    if not PROGRAM.exists():
        subprocess.run([str(ROOT / "scripts" / "azurite")], check=False, cwd=ROOT)
    if not PROGRAM.exists() or shutil.which("node") is None:
        raise AzuriteMissing(MISSING)
    return PROGRAM


@contextlib.contextmanager
def running_azurite() -> Iterator[Azurite]:
    """Start blob and queue service; stop them by pid. Raises AzuriteMissing."""
    program = install()
    ports = {service: free_port() for service in ("blob", "queue", "table")}
    listen = [
        part for name, port in ports.items() for part in (f"--{name}Host", "127.0.0.1", f"--{name}Port", str(port))
    ]
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", *listen]
    with tempfile.TemporaryDirectory(prefix="tidegate-azurite-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["node", str(program), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        try:
            for service in ("blob", "queue"):
                await_http(f"http://127.0.0.1:{ports[service]}/", process, log)
            yield Azurite(
                f"http://127.0.0.1:{ports['blob']}/{ACCOUNT}",
                f"http://127.0.0.1:{ports['queue']}/{ACCOUNT}",
                process.pid,
            )
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def await_http(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 50.0) -> None:
    """Return when a process answers HTTP, whatever it says. RuntimeError with its last words when it does not."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except (OSError, urllib.error.URLError) as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"nothing answers at {url}: {log.read_text()[-2000:]}") from error
            time.sleep(0.05)  # asking again is the only way to know
