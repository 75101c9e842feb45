"""A service in miniature that is to be killed: starts a python task, a command and an escaping grandchild, then waits.

Run as `python -m tests.support.doomed_service FOLDER`. The pids of everything it started appear in files of FOLDER.
"""

import asyncio
import os
import sys
from pathlib import Path

from pipelines.engines import command, python
from tests.support.engine_contexts import make_context, make_settings

BUSY = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
FORKING = f"""
import os, sys
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", {BUSY!r}, "escaped"])
    os._exit(0)
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", {BUSY!r}, "command"])
"""


async def main(folder: Path) -> None:
    """Start it all and wait for the end."""
    settings = make_settings(folder)
    engines = (python.KIND.build(settings), command.KIND.build(settings))
    contexts = (
        make_context("python", {"function": "plain:hang", "args": {"ready": str(folder / "grandchild")}}, seconds=600),
        make_context("python", {"function": "plain:orphan", "args": {"ready": str(folder / "orphan")}}, seconds=600),
        make_context("command", {"argv": [sys.executable, "-I", "-S", "-c", FORKING]}, seconds=600),
    )
    await engines[0].poll(contexts[1], await engines[0].start(contexts[1]))
    await asyncio.gather(
        engines[0].poll(contexts[0], await engines[0].start(contexts[0])),
        engines[1].poll(contexts[2], await engines[1].start(contexts[2])),
    )


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    asyncio.run(main(Path(sys.argv[1])))
