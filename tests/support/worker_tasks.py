"""Task functions as users write them, some of them badly; written into a folder by tests of workers.

`PLAIN` imports nothing heavy; `FRAMES` imports Polars.
"""

PLAIN = """
import asyncio
import os
import signal
import subprocess
import sys
import time


def hello(name, greeting="hi", *, context):
    print("out of", name)
    print("err of", name, file=sys.stderr)
    context.log("logged")
    return {"text": f"{greeting} {name}", "attempt": context.attempt, "run": context.run}


async def later(n):
    await asyncio.sleep(0)
    return n + 1


def environment():
    return {name: os.environ.get(name) for name in ("TRACEPARENT", "TRACESTATE", "TIDEGATE_TOKEN", "MINE")}


def everything(**params):
    return params


def pid():
    return os.getpid()


def large():
    return ["x" * 1000] * 1000


def measure(large):
    return len(large)


def strange():
    return object()


def boom():
    raise ValueError("no luck")


def leave():
    sys.exit(4)


def die(how):
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), getattr(signal, how))


def hard_exit():
    os._exit(7)


def hang(ready):
    child = subprocess.Popen(["sleep", "600"])
    with open(ready + ".tmp", "w") as file:
        file.write(str(child.pid))
    os.rename(ready + ".tmp", ready)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def orphan(ready):
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code, ready], start_new_session=True)
    return None


def grow():
    kept = []
    while True:
        kept.append(bytearray(10_000_000))


def big_and_gone(size):
    block = bytearray(size)
    return len(block)


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def raw():
    os.write(1, b"raw line\\nno end")
    subprocess.run(["echo", "from a child"], check=True)


def close_files():
    os.close(1)
    os.close(2)


def flood(lines):
    for n in range(lines):
        print("line", n)


def retry_later():
    from pipelines.errors import TaskFailed

    raise TaskFailed("busy now", "busy", retry_after=9.0)
"""

FRAMES = """
from datetime import date

import polars as pl


def typed(day: date, frame: pl.LazyFrame):
    return {"day": day.year, "rows": frame.collect().height}


def frame(rows=3):
    return pl.DataFrame({"id": range(rows), "amount": [float(n) for n in range(rows)]})


def lazy():
    return pl.LazyFrame({"id": [1, 2]})


def total(frame: pl.DataFrame):
    return int(frame["id"].sum())


def odd(frame):
    return pl.DataFrame({"id": [1, 1, None], "amount": [1.0, -5.0, 2e6]})
"""
