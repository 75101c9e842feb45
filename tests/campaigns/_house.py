"""The service under test: its configuration, its processes, and the children that must not outlive them."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "campaign-secret"
HOOK = "/hooks/crash"
_GONE_WITHIN = 10.0
_HOLD = 'echo "$$ $TIDEGATE_RUN/$TIDEGATE_TASK/$TIDEGATE_ATTEMPT" >> "$0"; sleep 30 & echo "$! -" >> "$0"; sleep 0.4'


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def signature(body: bytes) -> str:
    """Sign a body as the sensor expects it."""
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def configuration(folder: Path, store: str, port: int, sink_port: int) -> Mapping[str, Any]:
    """Return a configuration that uses every step that a crash can come between.

    Webhooks start calls (two events share a key), chains of two tasks, programs and functions; files start calls; a
    chain that succeeded starts another run through the service's own event.
    """
    sink = f"http://127.0.0.1:{sink_port}/"
    marks = str(folder / "marks")

    def call(kind: str, key: str, needs: Sequence[str] = ()) -> dict[str, Any]:
        return {"engine": "http", "url": sink, "json": {"kind": kind, "key": key}, "needs": list(needs)}

    def on_hook(kind: str) -> dict[str, Any]:
        return {
            "on": {"sensor": "hooks"},
            "when": f'event.data.kind == "{kind}"',
            "run": {"pipeline": kind, "params": {"key": "${{ event.data.key }}"}, "key": "event.data.key"},
        }

    key = {"key": {"type": "str", "required": True}}
    return {
        "service": {
            "name": "crash",
            "listen": f"127.0.0.1:{port}",
            "store": store,
            "base": str(folder),
            "state_dir": str(folder / "state"),
            "dispatch": {"lease": "2s", "grace": "500ms", "poll": "200ms"},
            "network": {"allow": ["127.0.0.0/8"]},
        },
        "sensors": {
            "hooks": {
                "kind": "webhook",
                "path": HOOK,
                "verify": {
                    "scheme": "hmac",
                    "secret": "env:CRASH_SECRET",
                    "header": "X-Signature",
                    "prefix": "sha256=",
                },
                "id": "body.id",
            },
            "drops": {
                "kind": "files",
                "path": str(folder / "drops"),
                "pattern": "{name}.csv",
                "settle": "100ms",
                "every": "2s",
                "start": "beginning",
            },
        },
        "triggers": {
            **{kind: on_hook(kind) for kind in ("call", "chain", "command", "python")},
            "file": {
                "on": {"sensor": "drops"},
                "run": {
                    "pipeline": "file",
                    "params": {"key": '${{ event.subject + "/" + string(event.data.size) }}'},
                },
            },
            "after": {
                "on": {"sensor": "tidegate", "types": ["tidegate.run.succeeded"]},
                "when": 'event.subject == "chain"',
                "run": {"pipeline": "after", "params": {"key": "${{ event.data.params.key }}"}},
            },
        },
        "pipelines": {
            "call": {"params": key, "concurrency": 64, "tasks": {"call": call("call", "${{ params.key }}")}},
            "file": {"params": key, "concurrency": 64, "tasks": {"call": call("file", "${{ params.key }}")}},
            "after": {"params": key, "concurrency": 64, "tasks": {"call": call("after", "${{ params.key }}")}},
            "chain": {
                "params": key,
                "concurrency": 64,
                "tasks": {
                    "first": call("first", "${{ params.key }}"),
                    "second": call("second", "${{ params.key }}", ["first"]),
                },
            },
            "command": {
                "params": key,
                "concurrency": 8,
                "tasks": {"hold": {"engine": "command", "argv": ["sh", "-c", _HOLD, marks]}},
            },
            "python": {
                "params": key,
                "concurrency": 8,
                "tasks": {
                    "hold": {
                        "engine": "python",
                        "function": "tests.campaigns._tasks:hold",
                        "sys_path": [str(ROOT)],
                        "args": {"marks": marks, "seconds": 0.3},
                    }
                },
            },
        },
    }


@dataclass(slots=True)
class Service:
    """One process of the service. `children` are the descendants that were seen while it lived: pid and start time."""

    process: asyncio.subprocess.Process
    port: int
    log: Path
    children: set[tuple[int, str]] = field(default_factory=set)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it is dead already."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def wait(self, seconds: float) -> int | None:
        """Wait for the end; return the exit code, None when it still runs."""
        try:
            async with asyncio.timeout(seconds):
                return await self.process.wait()
        except TimeoutError:
            return None

    async def ready(self, seconds: float = 60.0) -> bool:
        """Wait until it answers; False when it died before, or does not answer in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.process.returncode is None and loop.time() < end:
            try:
                async with asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    try:
                        writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                        line = await reader.readline()
                    finally:
                        writer.transport.abort()
                if b" 200 " in line:
                    return True
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(0.03)
        return False

    async def watch_children(self) -> None:
        """Note all descendants every now and then, until cancelled."""
        while True:
            self.children.update(descendants(self.pid))
            await asyncio.sleep(0.1)


async def start(
    folder: Path, port: int, config: Path, number: int, failpoint: str = "", launcher: Sequence[str] = ()
) -> Service:
    """Start a process. `launcher` is put in place of `-m tidegate serve` (for sabotage and strace)."""
    log = folder / "logs" / f"life-{number:04}.log"
    log.parent.mkdir(exist_ok=True)
    env = {
        **os.environ,
        "CRASH_SECRET": SECRET,
        "TIDEGATE_FAILPOINT": failpoint,
        "TIDEGATE_LOG_FORMAT": "json",
        "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # a process that starts 300 times need not be compiled 300 times
    argv = [*(launcher or (sys.executable, "-m", "tidegate", "serve")), str(config)]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
        )
    return Service(process, port, log)


def write_config(folder: Path, name: str, config: Mapping[str, Any]) -> Path:
    """Write a configuration (JSON is YAML)."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


def descendants(pid: int) -> set[tuple[int, str]]:
    """Return (pid, start time) of everything below a process."""
    found: set[tuple[int, str]] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        for thread in _listed(f"/proc/{parent}/task"):
            with contextlib.suppress(OSError):
                for word in Path(f"/proc/{parent}/task/{thread}/children").read_text().split():
                    child = int(word)
                    born = start_time(child)
                    if born is not None:
                        found.add((child, born))
                        todo.append(child)
    return found


def start_time(pid: int) -> str | None:
    """Return when a process started, in the kernel's words; None when it is gone (a zombie is)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


async def survivors(children: set[tuple[int, str]], seconds: float = _GONE_WITHIN) -> list[int]:
    """Wait until the children are gone; return those that are not after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        left = [pid for pid, born in children if start_time(pid) == born]
        if not left or loop.time() > end:
            return left
        await asyncio.sleep(0.05)


def _listed(path: str) -> list[str]:
    try:
        return [entry.name for entry in Path(path).iterdir()]
    except OSError:
        return []
