"""A worker: a warm interpreter that carries out one job after another. Started by `pipelines.workers.pool`.

Jobs come and answers go over the socket that is its standard input when it starts; the task's own standard input is
empty, its output and errors are the worker's, flushed and marked at the end of each job. The worker ends when the
socket does. What it may not do (outlive the service, leave children behind) is its warden's business, not its own
goodwill.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import orjson

from pipelines.workers.frames import HEAD, Job
from pipelines.workers.functions import Functions
from pipelines.workers.job import carry_out

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Serve jobs until the service closes the socket."""
    channel = _take_over_stdin()
    functions = Functions()
    while (job := _receive(channel)) is not None:
        if not functions.fit(job):
            _send(channel, {"stale": True})
            continue
        cpu, peak_reset = _cpu(), _reset_peak()
        stop = StopFlag(lambda: _send(channel, {"cooperates": True}))
        try:
            answer = carry_out(job, functions, lambda text: _send(channel, {"log": str(text)}), stop.asked)
        finally:
            stop.lower()
        functions.remember()
        answer["cpu"] = _cpu() - cpu
        answer["rss"] = _peak(peak_reset)
        answer["kept"] = _resident()
        _finish_output(job.mark)
        _send(channel, answer)


class StopFlag:
    """Whether the job was asked to stop. Who asks for the first time is from then on told before being killed."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._watching = False
        self._raised = False

    def asked(self) -> bool:
        """Say whether the service wants the job to end; for the main thread of the worker to ask first."""
        if not self._watching and threading.current_thread() is threading.main_thread():
            self._watching = True
            signal.signal(signal.SIGTERM, self._raise)
            self._announce()
        return self._raised

    def lower(self) -> None:
        """End watching with the job."""
        if self._watching:
            self._watching = False
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _raise(self, number: int, frame: object) -> None:
        self._raised = True


def _take_over_stdin() -> socket.socket:
    """Keep the socket to ourselves and give the user's code an empty standard input."""
    channel = socket.socket(fileno=os.dup(0))
    channel.setblocking(True)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    return channel


def _receive(channel: socket.socket) -> Job | None:
    head = _exactly(channel, HEAD.size)
    if head is None:
        return None
    body = _exactly(channel, HEAD.unpack(head)[0])
    return None if body is None else Job(**orjson.loads(body))


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            more = channel.recv(size - len(data))
        except ConnectionError:
            return None
        if not more:
            return None
        data += more
    return bytes(data)


def _send(channel: socket.socket, answer: dict[str, Any]) -> None:
    body = orjson.dumps(answer)
    with contextlib.suppress(ConnectionError):  # the service is gone; the next receive ends us
        channel.sendall(HEAD.pack(len(body)) + body)


def _finish_output(mark: str) -> None:
    """Flush what the task printed and mark its end, so that the next task's lines are not taken for this one's."""
    end = f"{mark}\n".encode()
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        with contextlib.suppress(OSError):
            os.write(fd, end)


def _cpu() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reset_peak() -> bool:
    """Begin a new high-water mark of resident memory; False where the system keeps only one per process."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - a kernel file
            file.write("5")
    except OSError:
        return False
    return True


def _peak(reset: bool) -> int:
    """Return the peak of resident bytes since the reset, or of the process's life."""
    if reset:
        try:
            with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - a kernel file
                for line in file:
                    if line.startswith(b"VmHWM:"):
                        return int(line.split()[1]) * 1024
        except (OSError, ValueError, IndexError):
            pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _resident() -> int:
    """Return the bytes resident now without pages of files; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a kernel file
            _, resident, shared, *_ = file.read().split()
            return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    main()
