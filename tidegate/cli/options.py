"""Options that commands share, and what their values mean."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tidegate.cli.errors import USAGE, fail

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many at most.")]
Url = Annotated[str | None, typer.Option("--url", help="The service; default TIDEGATE_URL.", show_default=False)]
Since = Annotated[
    str | None, typer.Option("--since", help="From: 2026-01-31T06:00Z, or 7d ago as `7d`.", show_default=False)
]
Until = Annotated[str | None, typer.Option("--until", help="Up to, not including.", show_default=False)]

_AGO = re.compile(r"-?(\d{1,6})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(text: str | None, option: str) -> str | None:
    """Read a moment or an age as RFC 3339 text; a local one without an offset counts as UTC."""
    if text is None:
        return None
    try:
        found = _AGO.fullmatch(text)
        if found is not None:
            at = datetime.now(UTC) - timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        else:
            at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        fail(f"{option} {text} is no moment; write 2026-01-31T06:00Z, or an age such as 7d", USAGE)
    return at.isoformat().replace("+00:00", "Z")


def parameters(given: list[str]) -> dict[str, Any]:
    """Read `k=v` (text) and `k:=JSON` arguments."""
    import json

    found: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.rstrip(":"):
            fail(f"-p {item} is no parameter; write name=text or name:=JSON", USAGE)
        typed = name.endswith(":")
        name = name.removesuffix(":")
        if name in found:
            fail(f"-p {name} is given twice", USAGE)
        try:
            found[name] = json.loads(value) if typed else value
        except ValueError:
            fail(f"-p {item}: what follows := is no JSON; for text write {name}={value}", USAGE)
    return found


def sure(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back; `--yes` answers. Says no where nobody can be asked."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes to do it.", USAGE)
    if not typer.confirm(question):
        raise typer.Exit(1)
