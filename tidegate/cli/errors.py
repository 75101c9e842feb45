"""How commands end when they cannot do their work: a sentence on standard error and the exit code that means it.

0 ok · 1 found problems · 2 usage · 3 cannot reach the service.
"""

import sys
from typing import NoReturn

import typer

PROBLEMS = 1
USAGE = 2
UNREACHABLE = 3


def fail(message: str, code: int = PROBLEMS) -> NoReturn:
    """End the command with a sentence."""
    from config.problems import printable

    lines = [printable(line, 2000) for line in message.splitlines()] or [""]
    print("tidegate: " + "\n".join(lines), file=sys.stderr)
    raise typer.Exit(code)
