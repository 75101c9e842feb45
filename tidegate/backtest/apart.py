"""A back-test in a process of its own, so that it never slows down what the service is for.

In flow a question and the store's URL, over a pipe; out flows the report. The process reads the store by a connection
that cannot write, is polite to others (nice), and ends when nobody waits for it any more: when it is killed, or when
the pipe to whoever asked is closed.
"""

import asyncio
import os
import pickle
import sys
from pathlib import Path
from typing import Any, Final

from tidegate.backtest.values import Ask, Report
from tidegate.store.tx import StoreError

MODULE: Final = "tidegate.backtest.worker"
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_LENGTH: Final = 8  # bytes that say how many follow
_DROPPED: Final = ("TRACEPARENT", "TRACESTATE")


class BacktestFailed(Exception):
    """The back-test ended without an answer; the sentence says why."""


async def run_apart(ask: Ask, url: str) -> Report:
    """Run a back-test over the store of a URL. Cancelled, it takes the process with it.

    Raises StoreError when the store cannot be read, BacktestFailed when the process ends without an answer.
    """
    env = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, env.get("PYTHONPATH", ""))))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
        limit=2**20,
    )
    try:
        found, said = await _exchange(process, await asyncio.to_thread(pack, ask, url))
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    if not found:
        words = said.decode("utf-8", "replace").strip().splitlines()
        raise BacktestFailed(f"the back-test ended without an answer: {words[-1] if words else process.returncode}")
    answer: Report | str = await asyncio.to_thread(pickle.loads, found)
    if isinstance(answer, str):
        raise StoreError(answer)
    return answer


async def _exchange(process: asyncio.subprocess.Process, question: bytes) -> tuple[bytes, bytes]:
    """Ask, and read what comes until the process has ended; its input stays open meanwhile, as a sign of life."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise AssertionError("the process has pipes")
    listening = asyncio.gather(stdout.read(), stderr.read())
    try:
        stdin.write(question)
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # what it says about that is on its way
    try:
        found, said = await listening
    finally:
        listening.cancel()
        stdin.close()
    await process.wait()
    return found, said


def pack(ask: Ask, url: str) -> bytes:
    """Return a question as the worker reads it."""
    text = pickle.dumps((ask, url), pickle.HIGHEST_PROTOCOL)
    return len(text).to_bytes(_LENGTH, "big") + text


def unpack(read: Any) -> tuple[Ask, str]:
    """Read a question; `read(n)` returns so many bytes."""
    found: tuple[Ask, str] = pickle.loads(read(int.from_bytes(read(_LENGTH), "big")))  # noqa: S301 - whoever started us wrote it
    return found
