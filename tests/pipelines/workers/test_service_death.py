import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import alive, gone, read_pid
from tests.support.worker_tasks import PLAIN

ROOT = Path(__file__).parents[3]
FILES = ("grandchild", "orphan", "command", "escaped")


@pytest.fixture
def service(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    (tmp_path / "plain.py").write_text(PLAIN)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.doomed_service", str(tmp_path)], cwd=ROOT, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in children(pid):
        found += descendants(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_outlives_the_service(
    service: "subprocess.Popen[bytes]", tmp_path: Path, number: signal.Signals
) -> None:
    """After `kill -9` of the service every process it started is gone: workers, commands, their children, escapees."""
    pids = [await read_pid(tmp_path / name) for name in FILES]
    everything = {pid for pid in (*pids, *descendants(service.pid)) if alive(pid)}
    assert everything.issuperset(pids)
    assert len(everything) >= 7  # two wardens, worker, its child, orphan, command, escapee

    service.send_signal(number)
    service.wait(timeout=10)

    await gone(*everything)


async def test_children_die_with_their_warden(service: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    """When the wardens alone are killed, workers and commands are gone as well, and the service hears of it."""
    pids = [await read_pid(tmp_path / name) for name in FILES]
    for warden in children(service.pid):
        os.kill(warden, signal.SIGKILL)

    await gone(pids[0], pids[2])
    assert service.wait(timeout=10) != 0  # its tasks failed
    for pid in (pids[1], pids[3]):  # those that had left their groups have nobody left to end them
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
