"""A fan-out under `kill -9`: the service dies at every step of a run's way, workers die under their slices.

The tasks note each call with run, label and attempt. Whatever died: the run ends as it would have, no success is called
again, and no attempt is called twice.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.campaigns._house import free_port
from tests.support.service import ROOT

POINTS = (
    "dispatch.claimed",
    "dispatch.before_start",
    "dispatch.after_start",
    "dispatch.before_advance",
    "dispatch.after_advance",
    "store.before_commit",
    "store.after_commit",
)
_START, _LIFE = 60.0, 6.0  # seconds until it answers, and that it lives then unless it dies at its point
WITHIN = 180.0  # seconds in which a run must have ended after the last death
_CONFIG = """
service: {{name: dags, listen: "127.0.0.1:{port}", store: "sqlite:///dags.db",
  dispatch: {{lease: 3s, grace: 500ms, poll: 200ms}}}}
pipelines: {{p: {{python: "dag_tasks:gather", max_tasks: 32}}}}
"""
_TASKS = """
import time
from pathlib import Path
from pipelines.authoring import Retries, task

def note(context, item=""):
    with Path("marks").open("a") as file:
        file.write(f"{context.run} {context.task} {context.partition} {context.attempt}\\n")
    time.sleep(0.05)

@task
def listed(context) -> list:
    note(context)
    return [f"p{n}" for n in range(SLICES)]

@task(partitions=listed, retries=Retries(attempts=100, backoff=0.05, max_delay=0.2))
def fan(item: str, context):
    note(context)
    return item

@task(per=fan, retries=Retries(attempts=100, backoff=0.05, max_delay=0.2))
def copy(fan: str, context):
    note(context)
    return fan.upper()

@task(retries=Retries(attempts=100, backoff=0.05, max_delay=0.2))
def gather(copy: list, context):
    note(context)
    return len(copy)
"""


class Killed:
    """The service as a process that is killed."""

    def __init__(self, folder: Path, slices: int) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "tidegate.yaml").write_text(_CONFIG.format(port=self.port))
        (folder / "dag_tasks.py").write_text(_TASKS.replace("SLICES", str(slices)))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, fail_point: str = "") -> None:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TIDEGATE_FAILPOINT": fail_point}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "serve"], cwd=self.folder, env=environ, stdout=log, stderr=log
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_a_worker(self, dice: random.Random) -> bool:
        """Kill one of the processes that carry out tasks; say whether there was one."""
        mine = [pid for pid in _descendants(self._process.pid if self._process else 0) if _is_worker(pid)]
        if mine:
            os.kill(dice.choice(mine), signal.SIGKILL)
        return bool(mine)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask once; None when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/api/v1/{path}", sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read() or b"null")
            return found if answer.status < 300 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def kills(rounds: int, slices: int, seed: int) -> Counter[str]:
    """Run a fan-out through `rounds` deaths of the service; return what was seen. AssertionError tells what broke."""
    dice, seen = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="tidegate-dags-") as name:
        service = Killed(Path(name), slices)
        try:
            service.start()
            run = _until(lambda: service.ask("POST", "runs", {"pipeline": "p", "key": "one"}), 60)["uid"]
            for number in range(rounds):
                service.kill()
                service.start(f"{POINTS[number % len(POINTS)]}:{dice.randint(2, 40)}")
                until = time.monotonic() + _START
                while service.alive and time.monotonic() < until and service.ask("GET", "pipelines") is None:
                    time.sleep(0.1)
                until = time.monotonic() + _LIFE
                while service.alive and time.monotonic() < until:
                    time.sleep(0.3)
                    seen["workers killed"] += service.kill_a_worker(dice) if dice.random() < 0.15 else 0
                    if _ended(service.ask("GET", f"runs/{run}")) is not None:
                        until = 0
                seen["services killed"] += 1
            service.kill()
            service.start()
            found = _until(lambda: _ended(service.ask("GET", f"runs/{run}")), WITHIN)
        finally:
            service.kill()
        marks = [line.split() for line in (Path(name) / "marks").read_text().splitlines()]
    calls = Counter(tuple(line) for line in marks)
    seen.update({"slices": 2 * slices, "calls": len(marks)})
    seen["called twice under one attempt"] = sum(count > 1 for count in calls.values())
    assert found["state"] == "succeeded", found["error"]
    tasks = {task["task"]: task for task in found["tasks"]}
    assert tasks["gather"]["output"] == slices, tasks["gather"]
    assert tasks["copy"]["slices"] == {"succeeded": slices}
    assert seen["called twice under one attempt"] == 0
    return seen


def _ended(run: Any) -> Any:
    return run if run is not None and run["state"] in ("succeeded", "failed", "cancelled") else None


def _until(ask: Any, seconds: float) -> Any:
    until = time.monotonic() + seconds
    while (answer := ask()) is None:
        assert time.monotonic() < until, "nobody answered in time"
        time.sleep(0.1)
    return answer


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, todo = [], [root]
    while todo:
        above = todo.pop()
        below = [pid for pid, parent in parents.items() if parent == above]
        found += below
        todo += below
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"pipelines.workers.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
