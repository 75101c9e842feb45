"""A worker: a warm interpreter that carries out one job after another. Started by `pipelines.workers.pool`.

Jobs come and answers go over the socket that is its standard input when it starts; the task's own standard input is
empty, its output and errors are the worker's, flushed and marked at the end of each job. The worker ends when the
socket does. What it may not do (outlive the service, leave children behind) is its warden's business, not its own
goodwill.
"""

import contextlib
import fcntl
import os
import resource
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable
from typing import Any

import orjson

from pipelines.workers.frames import HEAD, Job
from pipelines.workers.functions import Functions
from pipelines.workers.job import carry_out

_PAGE = os.sysconf("SC_PAGE_SIZE")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Serve jobs until the service closes the socket."""
    channel = _take_over_stdin()
    functions, memory = Functions(), Memory()
    while (job := _receive(channel)) is not None:
        if not functions.fit(job):
            _send(channel, {"stale": True})
            continue
        cpu = _cpu()
        memory.begin()
        stop = StopFlag(lambda: _send(channel, {"cooperates": True}))
        try:
            answer = carry_out(job, functions, lambda text: _send(channel, {"log": str(text)}), stop.asked)
        finally:
            stop.lower()
        functions.remember()
        answer["cpu"] = _cpu() - cpu
        answer["rss"] = memory.peak()
        answer["kept"] = memory.kept()
        answer["marked"] = _finish_output(job.mark)
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
    if body is None:
        return None
    mark, fields = orjson.loads(body)
    return Job(**{**fields, "mark": mark})


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


def _finish_output(mark: str) -> bool:
    """Flush what the task printed and mark its end, so that the next task's lines are not taken for this one's.

    Returns False where nothing had to be marked, for all that was printed has been read already.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if _unread(1) == 0 and _unread(2) == 0:
        return False
    end = f"{mark}\n".encode()
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            os.write(fd, end)
    return True


def _unread(fd: int) -> int | None:
    """Return how many bytes in a pipe nobody has read yet, None where its writing end cannot tell."""
    if sys.platform != "linux":
        return None
    count = bytearray(4)
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return None
    return int.from_bytes(count, sys.byteorder)


def _cpu() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Memory:
    """The memory of this process, over two kernel files that stay open: a job is asked about before and after."""

    def __init__(self) -> None:
        self._marks = _opened("/proc/self/clear_refs", os.O_WRONLY)
        self._pages = _opened("/proc/self/statm", os.O_RDONLY)

    def begin(self) -> None:
        """Begin a new high-water mark of resident memory; some systems keep only one per process."""
        if self._marks is not None:
            with contextlib.suppress(OSError):
                os.write(self._marks, b"5")

    def peak(self) -> int:
        """Return the peak of resident bytes since the beginning, or of the process's life."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT

    def kept(self) -> int:
        """Return the bytes resident now without pages of files; 0 where that cannot be told."""
        if self._pages is None:
            return 0
        try:
            _, resident, shared, *_ = os.pread(self._pages, 128, 0).split()
            return (int(resident) - int(shared)) * _PAGE
        except (OSError, ValueError):
            return 0


def _opened(path: str, how: int) -> int | None:
    try:
        return os.open(path, how | os.O_CLOEXEC)
    except OSError:
        return None


if __name__ == "__main__":
    main()
