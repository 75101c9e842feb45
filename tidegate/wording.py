"""Ages, durations and sizes as people say them, for the console and the command line. Pure."""

from datetime import UTC, datetime

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"))


def parse_moment(moment: str) -> int | None:
    """Read RFC 3339 text as UTC microseconds, None when it is none."""
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return None
    if found.tzinfo is None:
        return None
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def ago(moment: str | None, now: int) -> str:
    """Return how long before `now` (UTC microseconds) a moment was: `3s ago`, `in 2m`; `–` for none."""
    at = None if moment is None else parse_moment(moment)
    if at is None:
        return "–"
    seconds = (now - at) / 1e6
    if abs(seconds) < 1:
        return "now"
    return f"{_rough(seconds)} ago" if seconds > 0 else f"in {_rough(-seconds)}"


def _rough(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def lasting(seconds: float) -> str:
    """Return a duration with about three figures: `840µs`, `12ms`, `1.52s`, `3m 05s`, `2h 10m`, `4d 3h`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def sized(n: int | None) -> str:
    """Return a number of bytes: `512 B`, `1.4 KiB`; `–` for None."""
    if n is None:
        return "–"
    if n < 1024:
        return f"{n} B"
    size = float(n)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            return f"{size:.1f} {unit}"
    return ""
