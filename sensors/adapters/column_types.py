"""Names of column types: which of them people may write, which found type is what they meant, and which hold both of
two. Pure.

What a file declares (Parquet) is taken by its word. Types guessed from text and JSON are only what the values that were
read have in common, so whatever holds these values is accepted: digits are good floats, decimals and strings in a CSV.
"""

import re
from collections.abc import Mapping
from typing import Final

from sensors.adapters.shapes import Origin

_SPACES: Final = re.compile(r"\s+")
_ALIASES: Final[Mapping[str, str]] = {
    "integer": "int",
    "bigint": "int64",
    "double": "float64",
    "str": "string",
    "text": "string",
    "boolean": "bool",
    "datetime": "timestamp",
    "array": "list",
    "object": "struct",
}
_INTS: Final = frozenset({f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"int128"})
_FLOATS: Final = frozenset({"float16", "float32", "float64"})
FAMILIES: Final = (
    *("int", "float", "number", "decimal", "string", "bool", "date", "time", "timestamp", "duration", "binary"),
    *("list", "struct", "map", "uuid", "interval", "null", "any"),
)
_UNIT: Final = r"\[(ms|us|ns)\]"
_EXACT: Final = re.compile(
    rf"decimal\(\d{{1,2}},\d{{1,2}}\)|time{_UNIT}|duration{_UNIT}|timestamp\[(ms|us|ns)(,[A-Za-z0-9_+:/-]+)?\]"
    r"|list<.+>|struct<.+>|map<.+>"
)
# What a guess from values may turn out to be, besides itself.
_FITS: Final[Mapping[Origin, Mapping[str, frozenset[str]]]] = {
    "declared": {},
    "text": {
        "int": frozenset({"float", "decimal"}),
        "float": frozenset({"decimal"}),
        "date": frozenset({"timestamp"}),
    },
    "json": {
        "int": frozenset({"float", "decimal"}),
        "float": frozenset({"decimal"}),
        "date": frozenset({"timestamp", "string"}),
        "timestamp": frozenset({"string"}),
        "time": frozenset({"string"}),
        "string": frozenset({"binary", "decimal"}),  # JSON has no other way to write them
    },
}


def normal_type(written: str) -> str:
    """Return a type as it is compared: no spaces, aliases resolved. Raises ValueError for what is no type."""
    text = _SPACES.sub("", written)
    lowered = text.lower()
    lowered = _ALIASES.get(lowered, lowered)
    if lowered in FAMILIES or lowered in _INTS or lowered in _FLOATS:
        return lowered
    if _EXACT.fullmatch(text):  # names of zones and fields keep their case
        return text
    raise ValueError(
        f"there is no type {written[:40]!r}; write one of {', '.join(FAMILIES)}, or an exact one such as int32, "
        "float64, timestamp[us, UTC], decimal(10,2) or list<int64>"
    )


def family(kind: str) -> str:
    """Return the family of a type: `int` of `uint8`, `timestamp` of `timestamp[us,UTC]`, itself when it has none."""
    base = re.split(r"[\[(<]", kind, maxsplit=1)[0]
    if base in _INTS:
        return "int"
    return "float" if base in _FLOATS else base


def accepts(expected: str, found: str, origin: Origin) -> bool:
    """Say whether a column of the found type is what was expected. `expected` is a normal type."""
    found = _SPACES.sub("", found)
    if expected in ("any", found) or found == "null":  # nothing speaks against a column without values
        return True
    wanted, is_ = family(expected), family(found)
    if expected == "number":
        return is_ in ("int", "float", "decimal")
    if origin == "declared":
        return expected in FAMILIES and wanted == is_
    return wanted == is_ or wanted in _FITS[origin].get(is_, ()) or (origin == "text" and wanted == "string")


def join(one: str, other: str, origin: Origin) -> str | None:
    """Return the type that holds the values of both, None where there is none. `one` is the older one.

    In text a column of strings holds anything; one of numbers that now brings words does not.
    """
    one, other = _SPACES.sub("", one), _SPACES.sub("", other)
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    if origin == "declared":
        return None
    for wide, narrow in ((one, other), (other, one)):
        kinds = family(wide), family(narrow)
        if kinds in (("float", "int"), ("timestamp", "date")) or (wide, narrow) == ("int128", "int64"):
            return wide
        # JSON writes moments as strings.
        if origin == "json" and kinds[0] == "string" and kinds[1] in ("string", "date", "time", "timestamp"):
            return wide
    return one if origin == "text" and one == "string" else None
