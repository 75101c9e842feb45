"""The service's side of the warden: children as values with a future for their end.

In flow argv, environment and three standard files; out flows a `Ward`. Nothing here blocks the loop but the start of
the warden itself, once, with the first child. When the warden is gone all its wards count as killed (the kernel and we
see to it that they are), and the next start makes a new one.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_HEAD = struct.Struct(">I")
_END_WITHIN = 6.0


class SpawnRefused(Exception):
    """The operating system refused to start a program; `errno` says why, `about` the file that it is about."""

    def __init__(self, errno: int, about: str, text: str) -> None:
        super().__init__(text)
        self.errno = errno
        self.about = about


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a child: exit code (negative: the signal's number), CPU seconds, peak resident bytes.

    `over` is not 0 when it was killed for using more memory than it may: then it is what it had.
    """

    code: int
    cpu: float = 0.0
    rss: int = 0
    over: int = 0

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-self.code).name
        return f"signal {-self.code}"


class Ward:
    """A child under the warden's care. `exited` resolves with its end and is never cancelled by us."""

    __slots__ = ("_id", "_warden", "exited", "pid")

    def __init__(self, warden: "_Link", id: int, exited: "asyncio.Future[Exit]") -> None:
        self._warden = warden
        self._id = id
        self.exited = exited
        self.pid = 0

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the child's whole process group; nothing happens when it is gone."""
        if not self.exited.done():
            self._warden.send({"op": "kill", "id": self._id, "signal": int(number)})

    def limit(self, size: int) -> None:
        """Kill the child once it has, with its children, more than `size` bytes resident; 0 lifts the limit."""
        if not self.exited.done():
            self._warden.send({"op": "limit", "id": self._id, "bytes": size})

    async def end(self) -> Exit:
        """Wait for the child's end; cancelling the wait leaves the child alone."""
        return await asyncio.shield(self.exited)


class Wards:
    """Starts children, with a warden that is started when it is first needed."""

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._starting = asyncio.Lock()

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, files: tuple[int, int, int]) -> Ward:
        """Start `argv` in its own session with these standard files (closed here in every case).

        Raises SpawnRefused when the system does not start it, OSError when there is no warden to be had.
        """
        try:
            async with self._starting:
                if self._link is None or self._link.gone:
                    self._link = await _Link.start()
            link = self._link
        except BaseException:
            for fd in files:
                os.close(fd)
            raise
        return await link.spawn(argv, env, cwd, files)

    async def close(self) -> None:
        """Kill all children and end the warden; returns when they are gone, or after some seconds."""
        async with self._starting:
            link, self._link = self._link, None
        if link is not None:
            await link.close()


class _Link:
    """The connection to one warden process."""

    def __init__(self, control: socket.socket, process: asyncio.subprocess.Process) -> None:
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._process = process
        self._wards: dict[int, Ward] = {}
        self._starts: dict[int, asyncio.Future[int]] = {}
        self._out: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._writing = False
        self._in = bytearray()
        self._last = 0
        self.gone = False
        self._loop.add_reader(control.fileno(), self._readable)

    @classmethod
    async def start(cls) -> "_Link":
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            script = str(Path(__file__).with_name("warden.py"))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                script,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(ours, process)

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, files: tuple[int, int, int]) -> Ward:
        self._last += 1
        number = self._last
        ward = Ward(self, number, self._loop.create_future())
        started: asyncio.Future[int] = self._loop.create_future()
        self._wards[number], self._starts[number] = ward, started
        request = {"op": "spawn", "id": number, "argv": list(argv), "env": dict(env), "cwd": str(cwd)}
        self.send(request, files)
        try:
            ward.pid = await started
        except asyncio.CancelledError:
            ward.kill()  # the request is on its way; the kill follows it
            raise
        return ward

    def send(self, request: Mapping[str, Any], files: tuple[int, ...] = ()) -> None:
        """Send one request, in order; the files are closed once they are sent."""
        body = orjson.dumps(request)
        self._out.append((_HEAD.pack(len(body)), files))
        self._out.append((body, ()))
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        while self._out and not self.gone:
            data, files = self._out[0]
            try:
                sent = socket.send_fds(self._control, [data], files) if files else self._control.send(data)
            except (BlockingIOError, InterruptedError):
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._control.fileno(), self._flush)
                return
            except OSError:
                self._lost()
                return
            for fd in files:
                os.close(fd)
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()
        if self.gone:
            for _, files in self._out:
                for fd in files:
                    os.close(fd)
            self._out.clear()
        elif self._writing:
            self._writing = False
            self._loop.remove_writer(self._control.fileno())

    def _readable(self) -> None:
        try:
            data = self._control.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._in += data
        while len(self._in) >= _HEAD.size:
            (size,) = _HEAD.unpack_from(self._in)
            if len(self._in) < _HEAD.size + size:
                return
            event = orjson.loads(self._in[_HEAD.size : _HEAD.size + size])
            del self._in[: _HEAD.size + size]
            self._heard(event)

    def _heard(self, event: Mapping[str, Any]) -> None:
        number = event["id"]
        match event["event"]:
            case "started":
                started = self._starts.pop(number)
                if not started.done():
                    started.set_result(event["pid"])
                self._wards[number].pid = event["pid"]
            case "refused":
                self._wards.pop(number)
                started = self._starts.pop(number)
                if not started.done():
                    started.set_exception(SpawnRefused(event["errno"], event["about"], event["text"]))
            case "exited":
                ward = self._wards.pop(number)
                ward.exited.set_result(Exit(event["code"], event["cpu"], event["rss"], event["over"]))

    def _lost(self) -> None:
        """The warden is gone: nothing of it may live on, and everybody who waits is told."""
        if self.gone:
            return
        self.gone = True
        self._loop.remove_reader(self._control.fileno())
        if self._writing:
            self._loop.remove_writer(self._control.fileno())
        self._control.close()
        self._flush()
        for ward in self._wards.values():
            if ward.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(ward.pid, signal.SIGKILL)
            ward.exited.set_result(Exit(-signal.SIGKILL))
        for started in self._starts.values():
            if not started.done():
                started.set_exception(OSError("the process that starts children ended; the next start makes a new one"))
        self._wards.clear()
        self._starts.clear()

    async def close(self) -> None:
        if not self.gone:
            self._control.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(_END_WITHIN):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._lost()
