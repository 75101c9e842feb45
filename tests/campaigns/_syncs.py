"""Counting what no kill can see: whether every acknowledged webhook was synced to the disk before its answer.

The service runs under strace, which counts `fsync` and `fdatasync`; webhooks are posted one after the other, so that no
two can share a commit. At least one sync per answer is the least that durability costs.
"""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.campaigns._house import HOOK, configuration, descendants, free_port, signature, start, write_config

_CALLS = "trace=fsync,fdatasync"


class StraceMissing(Exception):
    """There is no strace, or it may not trace here; the sentence says what to do."""


async def count_syncs(folder: Path, webhooks: int, launcher: Sequence[str] = ()) -> tuple[int, int]:
    """Post `webhooks` to a service on SQLite; return (acknowledged, syncs between the first and the last answer)."""
    strace = shutil.which("strace")
    if strace is None:
        raise StraceMissing("strace is not installed: run `apt-get install strace` to have the syncs counted.")
    folder.mkdir(parents=True)
    (folder / "drops").mkdir()
    trace = folder / "trace"
    port = free_port()
    config = configuration(folder, f"sqlite:///{folder}/tidegate.db", port, free_port())
    config = {**config, "triggers": {}, "pipelines": {}, "sensors": {"hooks": config["sensors"]["hooks"]}}
    path = write_config(folder, "syncs", config)
    program = launcher or (sys.executable, "-m", "tidegate", "serve")
    traced = (strace, "-f", "--seccomp-bpf", "-qq", "-e", _CALLS, "-o", str(trace), *program)
    service = await start(folder, port, path, 0, "", traced)
    try:
        if not await service.ready():
            text = service.log.read_text()
            if "ptrace" in text or "Operation not permitted" in text:
                raise StraceMissing("strace may not trace here: run where ptrace is allowed.")
            raise AssertionError(f"the service did not start under strace: {text[-2000:]}")
        before = _syncs(trace)
        acknowledged = await asyncio.to_thread(_post, port, webhooks)
        return acknowledged, _syncs(trace) - before
    finally:
        for pid, _ in descendants(service.pid):  # strace itself would let go of the service and leave it running
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if await service.wait(10.0) is None:
            service.signal(signal.SIGKILL)
            await service.process.wait()


def _post(port: int, n: int) -> int:
    """Post one webhook after the other; return how many were answered 202."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    accepted = 0
    for index in range(n):
        body = json.dumps({"id": f"s{index}", "kind": "none", "key": ""}).encode()
        headers = {"content-type": "application/json", "x-signature": signature(body)}
        connection.request("POST", HOOK, body, headers)
        answer = connection.getresponse()
        answer.read()
        accepted += answer.status == 202
    connection.close()
    return accepted


def _syncs(trace: Path) -> int:
    """Count completed calls: strace splits one that overlaps another into `unfinished` and `resumed`."""
    return sum(" = 0" in line for line in trace.read_text().splitlines())
