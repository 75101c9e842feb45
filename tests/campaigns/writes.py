"""`make writes`: kill -9 of the whole service at every step of runs that write datasets, on every kind of target.

`python -m tests.campaigns.writes [--target NAME …] [--steps N] [--sabotage]`. Each round kills the service (and with it
its workers) at one step: before and after each start and each record, in the tasks, and before, in and after the
publish step of each disposition. Prints rounds, rows lost and rows doubled; exits 1 when the datasets are not what runs
without a kill would have left. `--sabotage` forgets the memory of writes: then the check must find doubled rows. Before
that, the contract of all targets runs, with those that the short suite leaves out.
"""

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.campaigns._house import ROOT
from tests.campaigns._writes import Rounds, Target, steps
from tests.support.aws import running_seaweedfs
from tests.support.postgres import fresh_database, running_server

LOCAL = {
    "duckdb": "duckdb://w.duckdb/main.{}",
    "parquet": "parquet://out/{}.parquet",
    "parquet-folder": "parquet://out/{}/",
    "delta": "delta://out/{}",
}
NAMES = (*LOCAL, "postgresql", "s3", "s3-folder")


@contextlib.contextmanager
def opened(name: str) -> Iterator[Target]:
    """Give a target, on a server of its own where it needs one."""
    if name in LOCAL:
        yield Target(name=name, uri=LOCAL[name])
    elif name == "postgresql":
        with running_server() as server, fresh_database(server, empty=True) as url:
            place = url.partition("?")[0]
            yield Target(name=name, uri=f"{place}/public.{{}}")
    else:
        with running_seaweedfs() as aws:
            bucket = f"w-{uuid.uuid4().hex[:12]}"
            aws.s3.create_bucket(Bucket=bucket)
            uri = f"s3://{bucket}/{{}}.parquet" if name == "s3" else f"s3://{bucket}/{{}}/"
            yield Target(name=name, uri=uri, connection={"kind": "aws", **aws.options})


def contract() -> bool:
    """Run the contract of all targets."""
    argv = [sys.executable, "-m", "pytest", "-q", "tests/pipelines/datasets", "-m", "campaign or not campaign"]
    return subprocess.run(argv, cwd=ROOT, check=False).returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="writes", description=__doc__)
    parser.add_argument("--target", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--steps", type=int, default=None, help="only so many of the steps, spread over all")
    parser.add_argument("--sabotage", action="store_true", help="forget the memory of writes")
    parser.add_argument("--no-contract", action="store_true", help="leave the contract of targets out")
    options = parser.parse_args(argv)
    broken = not (options.no_contract or options.sabotage or contract())
    every = steps()
    chosen = every if options.steps is None else every[:: max(1, len(every) // options.steps)]
    for name in options.target:
        folder = Path(tempfile.mkdtemp(prefix=f"tidegate-writes-{name}-"))
        began = time.monotonic()
        with opened(name) as target:
            found = asyncio.run(Rounds(target, folder, sabotage=options.sabotage).run(list(chosen)))
        seconds = time.monotonic() - began
        print(
            f"{name}: rounds={found.rounds} kills={found.kills} datasets={4 * found.rounds} lost={found.lost}"
            f" doubled={found.doubled} orphans={found.orphans} wrong={len(found.wrong)} seconds={seconds:.0f}",
            flush=True,
        )
        for line in found.wrong[:20]:
            print(f"  ! {line}")
        if found.wrong or found.orphans:
            broken = True
            print(f"  evidence: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
