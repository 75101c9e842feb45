"""The warden: a small process that starts all children of a service and outlives none of them by choice.

In flow requests over the socket that is the only way to it (spawn, kill, limit), out flow what became of the children
(started, refused, exited). It exists for one promise: no child process outlives its service, not even after `kill -9`.

- When the socket ends, the service is gone: every process group and then every orphan below the warden (it is a
  subreaper, so those that left their group come back to it) gets SIGKILL, and the warden ends.
- When the warden is killed, the kernel kills its children (parent-death signal), and the service the groups.
- A child that ends takes what is left of its group with it, before its pid can be used again.
- It forks from a few MB, one thread, no event loop: a start costs about a millisecond, and its usage figures are exact.

Run as a script, isolated, with the socket's number as its argument: standard library only, nothing of ours imported.
Frames are a four-byte length and JSON; the three standard files of a spawn travel with the length.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HEAD = struct.Struct(">I")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIMIT_EVERY = 0.02  # a task can fill some 50 MB in that time
_CLEAN_WITHIN = 5.0
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Child:
    """A started child: its id at the service, its process, and the memory that it and its children may use.

    In bytes; a limit of 0 allows any. `over` is what they had when they were killed for it.
    """

    __slots__ = ("id", "limit", "over", "process")

    def __init__(self, id: int, process: "subprocess.Popen[bytes]") -> None:
        self.id = id
        self.process = process
        self.limit = 0
        self.over = 0


class Warden:
    """Serves one service until its socket ends."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}
        self._pids: dict[int, int] = {}  # id to pid
        self._prctl = _prctl()

    def serve(self) -> None:
        """Serve requests and exits until the service is gone, then clean up."""
        wake_read, wake_write = os.pipe()
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Handlers, not SIG_IGN: a handler is gone after exec, so that children start with the default.
            signal.signal(number, _nothing)
        if self._prctl is not None:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        control = self._control.fileno()
        try:
            while True:
                limited = any(child.limit for child in self._children.values())
                ready, _, _ = select.select([control, wake_read], [], [], _LIMIT_EVERY if limited else None)
                if wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                self._reap()
                if limited:
                    self._enforce()
                if control in ready and not self._request():
                    return
        except (ConnectionError, BrokenPipeError):
            return
        finally:
            self._clean()

    def _request(self) -> bool:
        """Serve one request; False at the end of the socket."""
        head, fds = b"", list[int]()
        while len(head) < _HEAD.size:
            data, more, _, _ = socket.recv_fds(self._control, _HEAD.size - len(head), 3)
            fds += more
            if not data:
                return False
            head += data
        body = bytearray()
        (size,) = _HEAD.unpack(head)
        while len(body) < size:
            data = self._control.recv(min(65536, size - len(body)))
            if not data:
                return False
            body += data
        request = json.loads(body)
        match request["op"]:
            case "spawn":
                try:
                    self._spawn(request, fds)
                finally:
                    for fd in fds:
                        os.close(fd)
            case "kill":
                pid = self._pids.get(request["id"])
                if pid is not None:
                    _kill_group(pid, request["signal"])
            case "limit":
                pid = self._pids.get(request["id"])
                if pid is not None:
                    self._children[pid].limit = request["bytes"]
        return True

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> None:
        warden, prctl = os.getpid(), self._prctl

        def tie() -> None:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != warden:
                os._exit(127)

        try:
            process = subprocess.Popen(
                request["argv"],
                stdin=fds[0],
                stdout=fds[1],
                stderr=fds[2],
                cwd=request["cwd"],
                env=request["env"],
                start_new_session=True,
                preexec_fn=tie,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            about = error.filename if isinstance(error, OSError) and isinstance(error.filename, str) else ""
            self._tell({"event": "refused", "id": request["id"], "errno": number, "about": about, "text": str(error)})
            return
        self._children[process.pid] = _Child(request["id"], process)
        self._pids[request["id"]] = process.pid
        self._tell({"event": "started", "id": request["id"], "pid": process.pid})

    def _reap(self) -> None:
        """Reap everything that ended; a child's group ends with it."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            if child is not None:
                # Before it is reaped: until then nobody else can get its number.
                _kill_group(ended.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            if child is None:
                continue
            child.process.returncode = os.waitstatus_to_exitcode(status)
            self._pids.pop(child.id, None)
            self._tell(
                {
                    "event": "exited",
                    "id": child.id,
                    "code": child.process.returncode,
                    "cpu": usage.ru_utime + usage.ru_stime,
                    "rss": usage.ru_maxrss * _RSS_UNIT,
                    "over": child.over,
                }
            )

    def _enforce(self) -> None:
        """Kill the groups of children that use more memory than they may, what they started included."""
        for pid, child in self._children.items():
            if child.limit and not child.over and (used := _used(pid, child.limit)) > child.limit:
                child.over = used
                _kill_group(pid, signal.SIGKILL)

    def _tell(self, event: dict[str, Any]) -> None:
        body = json.dumps(event).encode()
        self._control.sendall(_HEAD.pack(len(body)) + body)

    def _clean(self) -> None:
        """Kill what is below us, generation by generation: orphans become our children."""
        for pid in self._children:
            _kill_group(pid, signal.SIGKILL)
        until = time.monotonic() + _CLEAN_WITHIN
        while time.monotonic() < until:
            for pid in _own_children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.002)
            except ChildProcessError:
                return


def _prctl() -> Callable[[int, int], int] | None:
    """Return Linux's prctl; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None, use_errno=True).prctl
    function.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]

    def call(option: int, value: int) -> int:
        return int(function(option, value, 0, 0, 0))

    return call


def _nothing(number: int, frame: object) -> None:
    """Wake the loop; termination is for the service to hear, the warden ends with its socket."""


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _resident(pid: int) -> int:
    """Return the resident bytes of a process without pages of files, which cost nothing; 0 where it cannot be told."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
        return (int(resident) - int(shared)) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _used(pid: int, limit: int) -> int:
    """Return the resident bytes of a process and all below it.

    Added up first, which counts shared pages twice; where that is over the limit, exactly.
    """
    pids = _family(pid)
    if len(pids) == 1:
        return _resident(pid)
    total = sum(_resident(one) for one in pids)
    return total if total <= limit else sum(_proportional(one) for one in pids)


def _family(pid: int) -> list[int]:
    pids = [pid]
    for one in pids:
        pids += _children_of(one)
    return pids


def _proportional(pid: int) -> int:
    """Return the bytes of a process, shared pages by its share of them; what is resident where that is not told."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith((b"Pss_Anon:", b"Pss_Shmem:"))) * 1024
    except (OSError, ValueError, IndexError):
        return _resident(pid)


def _own_children() -> list[int]:
    return _children_of(os.getpid())


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except OSError:
        pass
    return found


if __name__ == "__main__":
    Warden(socket.socket(fileno=int(sys.argv[1]))).serve()
