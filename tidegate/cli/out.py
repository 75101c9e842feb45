"""What commands print: compact tables for people, JSON for scripts. Text from outside never reaches the terminal raw.

rich is imported when something is shown.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidegate.wording import ago, lasting

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_STATES: Mapping[str, tuple[str, str]] = {
    "succeeded": ("✔", "green"),
    "healthy": ("●", "green"),
    "sent": ("✔", "green"),
    "suppressed": ("–", "dim"),
    "fired": ("✔", "green"),
    "failed": ("✖", "bold red"),
    "unhealthy": ("●", "bold red"),
    "stopped": ("●", "bold red"),
    "error": ("✖", "bold red"),
    "dead": ("✖", "bold red"),
    "refused": ("✖", "bold red"),
    "upstream_failed": ("✖", "red"),
    "running": ("▶", "cyan"),
    "starting": ("○", "cyan"),
    "cancelling": ("◌", "yellow"),
    "cancelled": ("⊘", "yellow"),
    "queued": ("…", "yellow"),
    "ready": ("…", "yellow"),
    "pending": ("·", "dim"),
    "retry_wait": ("↻", "yellow"),
    "paused": ("‖", "yellow"),
    "standby": ("○", "dim"),
    "held": ("‖", "yellow"),
    "skipped": ("–", "dim"),
    "disabled": ("–", "dim"),
    "filtered": ("–", "dim"),
    "duplicate": ("=", "dim"),
}
_HIDDEN = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
_WIDE = 220


def now() -> int:
    """Return the wall time in UTC microseconds."""
    return time.time_ns() // 1000


def clean(value: object, *, lines: bool = False) -> str:
    """Return text fit for a terminal: no control characters but, if asked for, ends of lines."""
    words = "" if value is None else str(value)
    return "".join(
        char
        if char.isprintable() or (lines and char == "\n")
        else "    "
        if char == "\t"
        else "\N{REPLACEMENT CHARACTER}"
        for char in words
    )


def console() -> "Console":
    """Return the console of standard output; one that is no terminal is wide, so that nothing is cut."""
    from rich.console import Console

    made = Console(highlight=False, soft_wrap=False, emoji=False, markup=False)
    return made if made.is_terminal else Console(highlight=False, emoji=False, markup=False, width=_WIDE)


def show(*parts: "RenderableType") -> None:
    """Print parts one below the other."""
    out = console()
    for part in parts:
        out.print(part)


def as_json(data: Any) -> None:
    """Print JSON for scripts."""
    words = json.dumps(data, indent=2, ensure_ascii=False, default=str).translate(_HIDDEN)
    sys.stdout.write(
        words.encode(sys.stdout.encoding or "utf-8", "replace").decode(sys.stdout.encoding or "utf-8") + "\n"
    )


def words(value: object, style: str = "") -> "Text":
    """Return clean text in a style."""
    from rich.text import Text

    return Text(clean(value), style)


def line(*parts: object) -> "Text":
    """Join texts and words by single spaces; what is empty or None is left out."""
    from rich.text import Text

    found = [part if isinstance(part, Text) else Text(clean(part)) for part in parts if part not in (None, "")]
    return Text(" ").join(part for part in found if part.plain)


def state(value: str, shown: str | None = None) -> "Text":
    """Return a state with its mark and colour."""
    mark, style = _STATES.get(value, ("·", ""))
    return words(f"{mark} {(shown or value).replace('_', ' ')}", style)


def age(moment: str | None) -> "Text":
    """Return how long ago a moment was."""
    return words(ago(moment, now()), "dim")


def took(seconds: float | None) -> "Text":
    """Return a duration."""
    return words("–" if seconds is None else lasting(seconds))


def counts(found: Mapping[str, int], order: Sequence[str] = ()) -> "Text":
    """Return exact counts by outcome, the named ones first."""
    from rich.text import Text

    names = [name for name in order if name in found] + [name for name in sorted(found) if name not in order]
    parts = [
        Text.assemble(
            (f"{found[name]:,}", _STATES.get(name, ("", ""))[1]), (f" {clean(name.replace('_', ' '))}", "dim")
        )
        for name in names
    ]
    return Text("  ").join(parts) if parts else Text("–", "dim")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "") -> "RenderableType":
    """Build a table without lines. A column named `>x` is set to the right, `!x` is never broken over lines."""
    from rich.table import Table
    from rich.text import Text

    cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
    if not cells:
        return Text(empty, "dim")
    made: Table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        made.add_column(
            name.lstrip(">!").upper(),
            justify="right" if name.startswith(">") else "left",
            no_wrap=name.startswith((">", "!")),
            overflow="fold",
        )
    for row in cells:
        made.add_row(*row)
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> "RenderableType":
    """Build an indented block of named facts; absent ones are left out."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and str(value):
            made.add_row(f"  {name}", value if isinstance(value, Text) else Text(clean(value, lines=True)))
    return made


def more(page: Mapping[str, Any]) -> None:
    """Say on standard error that there is more than was shown."""
    if page.get("cursor"):
        print(f"… and more; --limit {2 * max(1, len(page['items']))} shows them", file=sys.stderr)
