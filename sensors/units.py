"""Quantities as people write them in configuration: durations, sizes, and where history starts.

Pure text in, numbers out; used as types in the option models of kinds and engines:
`Duration` is float seconds (`500ms 30s 5m 6h 7d`), `Size` is int bytes (`64KiB 5MiB`), `Start` is `StartAt`
(`now | beginning | TIMESTAMP | -7d`). Every error is a ValueError whose sentence says what would be right.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)", re.ASCII)
_SECONDS: Final[Mapping[str, float]] = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0})
_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
    | {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
)
_LONGEST: Final = (
    36_525 * 86_400.0
)  # a hundred years: what is longer is a typing error, and would overflow int64 micros

DURATION_HELP: Final = "a duration such as 500ms, 30s, 5m, 6h or 7d"
SIZE_HELP: Final = "a size such as 64KiB or 5MiB"
START_HELP: Final = "now, beginning, a timestamp such as 2026-01-31T06:00:00Z, or a time back such as -7d"


def parse_duration(value: Any) -> float:
    """Return seconds for `500ms 30s 5m 6h 7d` (fractions allowed: `1.5h`); 0 may stand without a unit.

    A float passes as the seconds that it is (a model made in Python, or validated again); an int is refused for its
    missing unit. The configuration refuses floats as well: its validation context says `written`.
    """
    if isinstance(value, bool):
        raise ValueError(f"expected {DURATION_HELP}")  # noqa: TRY004 - pydantic turns ValueError into a finding
    if isinstance(value, float) or value == 0:
        seconds = float(value)
    elif isinstance(value, int):
        raise ValueError(f"{value} has no unit; write {DURATION_HELP}")
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        seconds = float(found[1]) * _SECONDS[found[2]]
    elif value == "0":
        seconds = 0.0
    else:
        raise ValueError(f"expected {DURATION_HELP}")
    if not 0.0 <= seconds <= _LONGEST:
        raise ValueError("a duration lies between 0 and 100 years")
    return seconds


def _duration(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, float) and info.context and info.context.get("written"):
        raise ValueError(f"{value:g} has no unit; write {DURATION_HELP}")
    return parse_duration(value)


def format_duration(seconds: float) -> str:
    """Return the shortest whole spelling: 90.0 -> `90s`, 3600.0 -> `1h`, 0.5 -> `500ms`."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    millis = f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")
    return f"{millis}ms" if millis != "0" else "0s"


def parse_size(value: Any) -> int:
    """Return bytes for `512B 64KiB 5MiB 1GiB` and the decimal `kB MB GB`; a bare whole number is bytes."""
    if isinstance(value, bool):
        raise ValueError(f"expected {SIZE_HELP}")  # noqa: TRY004
    if isinstance(value, int):
        size = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = round(float(found[1]) * _BYTES[found[2]])
    else:
        raise ValueError(f"expected {SIZE_HELP}")
    if not 0 <= size < 1 << 63:
        raise ValueError("a size lies between 0 and 8 EiB")
    return size


@dataclass(frozen=True, slots=True)
class StartAt:
    """Where a sensor begins when it has no cursor. `at` is UTC micros for `time`, `back` seconds for `back`."""

    mode: Literal["now", "beginning", "time", "back"]
    at: int = 0
    back: float = 0.0

    def micros(self, now: int) -> int:
        """Return the start as UTC micros, given `now` in UTC micros; 0 for `beginning`."""
        match self.mode:
            case "now":
                return now
            case "beginning":
                return 0
            case "time":
                return self.at
            case "back":
                return max(0, now - round(self.back * 1e6))

    def __str__(self) -> str:
        match self.mode:
            case "time":
                return datetime.fromtimestamp(self.at / 1e6, UTC).isoformat().replace("+00:00", "Z")
            case "back":
                return f"-{format_duration(self.back)}"
            case _:
                return self.mode


def parse_start(value: Any) -> StartAt:
    """Return where to start for `now | beginning | TIMESTAMP | -7d`; a timestamp without an offset is refused."""
    if isinstance(value, StartAt):
        return value
    if isinstance(value, datetime):
        value = value.isoformat()
    if not isinstance(value, str):
        raise ValueError(f"expected {START_HELP}")  # noqa: TRY004
    text = value.strip()
    if text == "now":
        return StartAt("now")
    if text == "beginning":
        return StartAt("beginning")
    if text.startswith("-"):
        try:
            return StartAt("back", back=parse_duration(text[1:]))
        except ValueError as error:
            raise ValueError(f"expected {START_HELP}") from error
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected {START_HELP}") from error
    if moment.tzinfo is None:
        if len(text) == 10:  # a bare date is midnight UTC, as everywhere in the service
            return StartAt("time", at=round(moment.replace(tzinfo=UTC).timestamp() * 1e6))
        raise ValueError("a timestamp needs its offset, such as 2026-01-31T06:00:00Z")
    return StartAt("time", at=round(moment.timestamp() * 1e6))


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "description": DURATION_HELP}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)? ?(B|[KMGT]iB|[kKMGT]B)$", "description": SIZE_HELP},
    ),
]
Start = Annotated[
    StartAt,
    BeforeValidator(parse_start),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "description": START_HELP}),
]
