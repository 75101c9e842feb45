"""A run that writes four datasets, killed at a step and run on: the service, its datasets, and what must be there.

In flows a target; each round starts a run, has the service killed with SIGKILL at one step of it, starts the service
again and waits for the run's end. Then every disposition must have left what it would have left without the kill.
"""

import asyncio
import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.datasets.registry import open_table
from pipelines.datasets.target import parse_target
from tests.campaigns._house import ROOT, Service, free_port, start, survivors, write_config
from tests.campaigns._write_tasks import DISPOSITIONS, ROWS

# Steps within workers; and fail points of the service, with the pass at which it dies.
WORKER_STEPS = ("started", "dataset.staged", "dataset.before_publish", "dataset.published")
SERVICE_STEPS = (
    "dispatch.claimed:1",
    "dispatch.before_start:1",
    "dispatch.after_start:1",
    "dispatch.before_advance:1",
    "dispatch.after_advance:1",
    "dispatch.before_start:2",
    "dispatch.after_start:3",
    "dispatch.before_advance:2",
    "dispatch.before_advance:3",
    "dispatch.before_advance:4",
    "dispatch.before_advance:5",
    "dispatch.after_advance:5",
    "dispatch.before_advance:6",
)
_WITHIN = 60.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the datasets lie: `uri` is a format for their names."""

    name: str
    uri: str
    connection: Mapping[str, Any] | None = None


@dataclass
class Found:
    """What the rounds found."""

    rounds: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)
    orphans: int = 0


def steps() -> list[str]:
    """Return every step that a run is killed at: `hold:TASK/STEP` in a worker, `point:NAME:PASS` in the service."""
    held = ["extract/started", *(f"{task}/{step}" for step in WORKER_STEPS for task in DISPOSITIONS), "report/started"]
    return [f"hold:{step}" for step in held] + [f"point:{step}" for step in SERVICE_STEPS]


def configuration(folder: Path, port: int, target: Target, store: str, *, sabotage: bool) -> Mapping[str, Any]:
    """Return a service whose one pipeline writes four datasets by four dispositions."""
    key = {"merge": {"key": "id"}, "soft_delete": {"key": "id"}}
    named = {"connection": "place"} if target.connection is not None else {}
    datasets = {
        mode: {"uri": target.uri.format(f"{mode}_rows"), "mode": mode, **named, **key.get(mode, {})}
        for mode in DISPOSITIONS
    }

    def task(function: str, **more: Any) -> dict[str, Any]:
        common = {"hold": "${{ params.hold }}", "marker": "${{ params.marker }}"}
        args = {**common, **more.pop("args", {})}
        return {
            "engine": "python",
            "function": f"tests.campaigns._write_tasks:{function}",
            "sys_path": [str(ROOT)],
            "args": args,
            "retries": {"attempts": 3, "backoff": "100ms"},
            **more,
        }

    loads = {
        mode: task("load", needs=["extract"], output=mode, args={"sabotage": sabotage} if sabotage else {})
        for mode in DISPOSITIONS
    }
    return {
        "service": {
            "name": "writes",
            "listen": f"127.0.0.1:{port}",
            "store": store,
            "base": str(folder),
            "state_dir": str(folder / "state"),
            "dispatch": {"lease": "1500ms", "grace": "300ms", "poll": "100ms"},
            "limits": {"workers": 2},
        },
        **({"connections": {"place": _by_reference(target.connection)}} if target.connection is not None else {}),
        "datasets": datasets,
        "pipelines": {
            "load": {
                "params": {name: {"type": "any", "required": True} for name in ("round", "hold", "marker")},
                "tasks": {
                    "extract": task("extract", args={"round_": "${{ params.round }}"}),
                    **loads,
                    "report": task("report", needs=list(DISPOSITIONS)),
                },
            }
        },
    }


def _by_reference(connection: Mapping[str, Any]) -> Any:
    """Return a connection whose secrets are references, as a configuration must have them: see `Rounds`."""
    told = dict(connection)
    if "credentials" in told:
        told["credentials"] = {"access_key_id": told["credentials"]["access_key_id"], "secret_access_key": "env:WRITES"}
    if "password" in told:
        told["password"] = "env:WRITES"
    return told


class Rounds:
    """The rounds on one target, one after the other on the same store and the same datasets."""

    def __init__(self, target: Target, folder: Path, store: str = "", *, sabotage: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._target = target
        secret = (target.connection or {}).get("credentials", {}).get("secret_access_key")
        if secret is not None:
            os.environ["WRITES"] = secret  # which the configuration names, as it must not hold it
        self._folder = folder
        self._port = free_port()
        store = store or f"sqlite:///{folder / 'tidegate.db'}"
        self._config = write_config(
            folder, "tidegate", configuration(folder, self._port, target, store, sabotage=sabotage)
        )
        self._life = 0
        self.found = Found()

    async def run(self, chosen: list[str]) -> Found:
        """Carry out one round for each step."""
        for step in chosen:
            await self._round(step)
        return self.found

    async def _round(self, step: str) -> None:
        number = self.found.rounds = self.found.rounds + 1
        kind, _, where = step.partition(":")
        marker = self._folder / f"marker-{number}"
        params = {"round": number, "hold": where if kind == "hold" else "", "marker": str(marker)}
        first = await self._start("" if kind == "hold" else where)
        watch = asyncio.create_task(first.watch_children())
        try:
            run = await self._begin(params, first)
            if kind == "hold":
                await self._await_marker(marker, first)
                first.process.kill()
            if await first.wait(_WITHIN) is None:
                first.process.kill()
                self.found.wrong.append(f"round {number}: the service did not die at {step}")
        finally:
            watch.cancel()
        self.found.kills += 1
        self.found.orphans += len(await survivors(first.children))
        second = await self._start("")
        try:
            run = run or await self._begin(params, second)
            state = "not started" if run is None else await self._ended(run)
            if state != "succeeded":
                self.found.wrong.append(f"round {number} ({step}): the run ended {state}")
        finally:
            second.process.terminate()
            if await second.wait(20) is None:
                second.process.kill()
                await second.wait(20)
        await asyncio.to_thread(self._check, number, step)

    async def _start(self, failpoint: str) -> Service:
        self._life += 1
        service = await start(self._folder, self._port, self._config, self._life, failpoint)
        if not await service.ready():
            raise RuntimeError(f"the service did not start: {service.log.read_text()[-2000:]}")
        return service

    async def _begin(self, params: Mapping[str, Any], service: Service) -> str | None:
        """Start the run; None when the service died before it answered (then nothing may be known of it yet)."""
        key = f"round-{params['round']}"
        try:
            answer = await self._ask("runs", {"pipeline": "load", "params": dict(params), "key": key})
        except OSError:
            await service.wait(_WITHIN)
            return None
        return str(answer["uid"])

    async def _await_marker(self, marker: Path, service: Service) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _WITHIN
        while not marker.exists():
            if loop.time() > end or service.process.returncode is not None:
                raise RuntimeError(f"the step was not reached: {service.log.read_text()[-3000:]}")
            await asyncio.sleep(0.01)

    async def _ended(self, run: str) -> str:
        loop = asyncio.get_running_loop()
        end = loop.time() + _WITHIN
        while loop.time() < end:
            with contextlib.suppress(OSError):
                state = str((await self._ask(f"runs/{run}"))["state"])
                if state in ("succeeded", "failed", "cancelled"):
                    return state
            await asyncio.sleep(0.05)
        return "not"

    async def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/api/v1/{path}", data, {"content-type": "application/json"}
        )

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read())

        return await asyncio.to_thread(ask)

    def _check(self, rounds: int, step: str) -> None:
        """Compare every dataset with what so many runs leave when nobody is killed."""
        for mode, expected in expectations(rounds).items():
            target = parse_target(self._target.uri.format(f"{mode}_rows"), self._folder)
            with closing(open_table(target, self._target.connection)) as table:
                frame = table.read().frame
            gone = "_deleted_at" in frame.columns
            marks = frame["_deleted_at"].is_not_null().to_list() if gone else [False] * frame.height
            there = sorted(zip(frame["id"].to_list(), frame["round"].to_list(), marks, strict=True))
            if there == expected:
                continue
            lost = sum(1 for row in set(expected) if row not in there)
            doubled = len(there) - len(set(there))
            self.found.lost += lost
            self.found.doubled += doubled
            self.found.wrong.append(
                f"round {rounds} ({step}): {mode} has {len(there)} rows for {len(expected)},"
                f" {lost} lost, {doubled} twice"
            )


def expectations(rounds: int) -> dict[str, list[tuple[int, int, bool]]]:
    """Return the rows (id, round, marked as deleted) that so many runs leave, by disposition."""
    merged: dict[int, int] = {}
    for number in range(1, rounds + 1):
        merged.update(dict.fromkeys(range(number, number + ROWS), number))
    last = range(rounds, rounds + ROWS)
    return {
        "append": sorted((n + i, n, False) for n in range(1, rounds + 1) for i in range(ROWS)),
        "replace": [(i, rounds, False) for i in last],
        "merge": sorted((i, n, False) for i, n in merged.items()),
        "soft_delete": sorted((i, n, i not in last) for i, n in merged.items()),
    }
