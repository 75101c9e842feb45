"""A PostgreSQL server of its own for a benchmark: fsync on, data in the benchmark's folder, on a free loopback port."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import ROOT, free_port


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    if path is None:
        raise RuntimeError(
            "PostgreSQL is missing: run scripts/system-packages as root, or install the Debian package postgresql"
        )
    return Path(path).parent


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str]:
    """Run PostgreSQL until the block ends; give the URL of a migrated, empty database."""
    binaries = _binaries()
    data = folder / "pgdata"
    data.mkdir()
    become: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        for parent in (data, *data.parents):
            if parent == Path("/"):
                break
            if not parent.stat().st_mode & 0o005:
                parent.chmod(parent.stat().st_mode | 0o011)
        become = ["runuser", "-u", "postgres", "--"]
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [*become, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"],
        check=True,
        cwd="/",
        **quiet,
    )  # type: ignore[call-overload]
    server = subprocess.Popen(
        [*become, str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(data)],
        cwd="/",
        **quiet,  # type: ignore[call-overload]
    )
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(
            [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)], **quiet, check=False
        ).returncode:  # type: ignore[call-overload]
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not become ready within 30 s")
            time.sleep(0.05)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _migrate(url, folder)
        yield url
    finally:
        server.terminate()
        pid = data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int(pid.read_text().split()[0]), 2)
        server.wait(20)


def _migrate(url: str, folder: Path) -> None:
    import json
    import sys

    path = folder / "migrate.yaml"
    path.write_text(json.dumps({"service": {"name": "migrate", "store": url}}))
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "migrate", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"tidegate migrate failed: {done.stdout}{done.stderr}")
