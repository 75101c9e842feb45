"""The functions that expressions have beside CEL's own: `day(timestamp, timezone)` and `capture(text, regex)`.

Regular expressions are RE2 (linear time) and nothing else, wherever they come from.
"""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from triggers.errors import ExpressionError


def day(moment: datetime, timezone: str) -> str:
    """Return the day (`YYYY-MM-DD`) of a moment in an IANA time zone. Raises ValueError for an unknown zone."""
    return moment.astimezone(zone(timezone)).date().isoformat()


def capture(text: str, pattern: str) -> str:
    """Return the first group of the first match of an RE2 pattern, the whole match when it has no group.

    Raises ValueError when nothing matches (`text.matches(re) ? capture(text, re) : ""` asks first), when the group took
    no part in the match, or when the pattern is no RE2.
    """
    found = regex(pattern).search(text)
    if found is None:
        raise ValueError(f"capture: the text does not match {pattern!r}")
    result = found.group(1 if found.re.groups else 0)
    if result is None:
        raise ValueError(f"capture: the first group of {pattern!r} took no part in the match")
    return str(result)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name; ValueError when there is none of that name."""
    if name == "UTC":
        return UTC  # no file is read for it
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"unknown time zone {name!r}: use an IANA name such as Europe/Oslo") from error


@lru_cache(maxsize=512)
def regex(pattern: str) -> Any:
    """Compile an RE2 pattern; ValueError says what is wrong with it."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        words = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"not an RE2 regular expression: {words}") from error


# (function, position of the literal among receiver and arguments) -> what refuses a wrong literal at load
LITERAL_CHECKS: dict[tuple[str, int], Callable[[str], object]] = {
    ("matches", 1): regex,
    ("capture", 1): regex,
    ("day", 1): zone,
}
NAMES = (
    "bool",
    "bytes",
    "capture",
    "contains",
    "day",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "all",
    "filter",
    "map",
    "format",
    "has",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "matches",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "substring",
    "timestamp",
    "trim",
    "type",
    "uint",
    "orValue",
    "hasValue",
    "value",
    "optMap",
    "optFlatMap",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
)


def check_literal(function: str, position: int, text: str, offset: int, path: str) -> None:
    """Refuse a literal that its function can never take: a wrong regex, an unknown time zone."""
    check = LITERAL_CHECKS.get((function, position))
    if check is None:
        return
    try:
        check(text)
    except ValueError as error:
        hint = "" if check is zone else "lookarounds and back-references do not exist in RE2"
        raise ExpressionError(str(error), path, hint, offset) from error
