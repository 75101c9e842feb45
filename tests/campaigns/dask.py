"""`make dask`: Python tasks on a real Dask cluster while service, workers and scheduler are killed under them.

`python -m tests.campaigns.dask [--rounds N]`. Each round starts runs of three tasks that hand a frame on, then kills
the service, a Dask worker, the scheduler (which comes back knowing nothing), or nobody, at a random moment. Prints what
was started, killed, lost and doubled; exits 1 when a run did not end with the right sum, or when one attempt of one
task was begun twice.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.dask import ROOT, DaskCluster, dask_cluster, free_port

_ROWS, _RUNS = 50_000, 3
_FLOW = """
import time

import polars as pl

from pipelines.authoring import Context, pipeline, task

RETRIES = {"attempts": 10, "backoff": "100ms", "max_delay": "1s"}


def mark(ctx, wait):
    with open(ctx.base / "marks", "a") as file:
        file.write(f"{ctx.run} {ctx.task} {ctx.attempt}\\n")
    time.sleep(wait)


@task(retries=RETRIES)
def one(rows: int, wait: float, ctx: Context) -> pl.DataFrame:
    mark(ctx, wait)
    return pl.DataFrame({"id": pl.int_range(rows, eager=True)})


@task(retries=RETRIES)
def two(one: pl.DataFrame, wait: float, ctx: Context) -> pl.DataFrame:
    mark(ctx, wait)
    return one.with_columns(pl.col("id") * 2)


@task(retries=RETRIES)
def three(two: pl.DataFrame, wait: float, ctx: Context) -> int:
    mark(ctx, wait)
    return int(two["id"].sum())


flow = pipeline("flow", [three], on="dask")
"""


class _Service:
    """`tidegate serve`, killed and started again."""

    def __init__(self, folder: Path, scheduler: str) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "flow.py").write_text(_FLOW)
        (folder / "tidegate.yaml").write_text(
            f"service: {{name: dask, listen: '{self.url.removeprefix('http://')}',"
            " dispatch: {lease: 2s, grace: 500ms}}\n"
            f"connections: {{dask: {{kind: dask, scheduler: '{scheduler}'}}}}\n"
            "pipelines: {flow: {python: 'flow:flow'}}\n"
        )

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "serve", "tidegate.yaml"],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if await self.ask("GET", "/readyz", body=None) is not None:
                        return
                await asyncio.sleep(0.05)

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, json=body) as answer:
            return await answer.json() if answer.status < 300 else None


async def _kill(what: str, service: _Service, cluster: DaskCluster, rand: random.Random) -> None:
    """Kill, and put what is needed back in its place."""
    if what == "service":
        service.end(signal.SIGKILL)
        await service.start()
    elif what == "worker":
        alive = [worker for worker in cluster.workers if worker.poll() is None]
        rand.choice(alive).send_signal(signal.SIGKILL)
        cluster.add_worker()
        await cluster.settled()
    elif what == "scheduler":
        cluster.kill_scheduler()
        await cluster.restart_scheduler()
        for worker in cluster.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
        cluster.add_worker()
        cluster.add_worker()
        await cluster.settled()


async def _round(service: _Service, cluster: DaskCluster, rand: random.Random, what: str) -> list[dict[str, Any]]:
    wait = rand.uniform(0.1, 0.6)
    params = {"rows": _ROWS, "wait": wait}
    body = {"pipeline": "flow", "params": params}
    uids = [(await service.ask("POST", "/api/v1/runs", body))["uid"] for _ in range(_RUNS)]
    await asyncio.sleep(rand.uniform(0.0, 5 * wait))
    await _kill(what, service, cluster, rand)
    ended = []
    async with asyncio.timeout(180):
        for uid in uids:
            while True:
                run = await service.ask("GET", f"/api/v1/runs/{uid}")
                if run["state"] in ("succeeded", "failed", "cancelled"):
                    break
                await asyncio.sleep(0.1)
            ended.append(run)
    return ended


async def _campaign(rounds: int, folder: Path) -> bool:
    rand = random.Random(7)
    killed: Counter[str] = Counter()
    wrong: list[str] = []
    attempts = 0
    async with dask_cluster(folder / "dask") as cluster:
        service = _Service(folder, cluster.address)
        await service.start()
        try:
            for number in range(rounds):
                what = rand.choice(("service", "worker", "scheduler", "nobody"))
                killed[what] += 1
                for run in await _round(service, cluster, rand, what):
                    outputs = {task["task"]: task.get("output") for task in run["tasks"]}
                    attempts += sum(task["attempt"] for task in run["tasks"])
                    if run["state"] != "succeeded" or outputs["three"] != _ROWS * (_ROWS - 1):
                        wrong.append(f"round {number} ({what}): {run['uid']} {run['state']}: {run['error']}")
        finally:
            service.end(signal.SIGTERM)
    marks = Counter((folder / "marks").read_text().splitlines())
    doubled = [mark for mark, times in marks.items() if times > 1]
    print(
        f"rounds={rounds} runs={rounds * _RUNS} attempts={attempts} begun={len(marks)} "
        f"killed={json.dumps(dict(killed))} wrong={len(wrong)} begun_twice={len(doubled)}"
    )
    for line in (*wrong, *doubled):
        print(f"  {line}")
    return not wrong and not doubled


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "20")))
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="tidegate-dask-", ignore_cleanup_errors=True) as folder:
        good = asyncio.run(_campaign(rounds, Path(folder)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
