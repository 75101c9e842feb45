"""What the campaign's `python` tasks do in their workers: tell that they started, and be there for a moment."""

import os
import time
from pathlib import Path

from pipelines.context import Context


def hold(context: Context, marks: str, seconds: float) -> str:
    """Note this process and the attempt that it was started for, wait, and name the attempt."""
    attempt = f"{context.run}/{context.task}/{context.attempt}"
    with Path(marks).open("a") as file:
        file.write(f"{os.getpid()} {attempt}\n")
    time.sleep(seconds)
    return attempt
