"""Typed parameters of a run: checked and brought into one JSON shape before anything starts.

In flow what a trigger, a person or a test gave; out flows a plain dict that JSON can hold, with defaults filled in:
dates as `YYYY-MM-DD`, datetimes as RFC 3339 in UTC. Text that means a number, a truth or a date is taken as one, since
command lines and mixed templates know only text.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import orjson

from pipelines.errors import ParameterError
from pipelines.graph import nearest
from pipelines.pipeline import Param
from pipelines.run import MAX_PARAMS_BYTES

PARAM_TYPES = ("str", "int", "float", "bool", "date", "datetime", "list", "map", "any")


def check_params(declared: Mapping[str, Param] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as a run keeps them. `declared` None takes any.

    Raises ParameterError for the first one that is unknown, missing or of the wrong type, for text that no store takes
    (NUL, lone surrogates), and when all together exceed 64 KiB of JSON.
    """
    if declared is None:
        checked = {name: coerce(name, "any", value) for name, value in given.items()}
    else:
        for name in given:
            if name not in declared:
                raise ParameterError(f"unknown parameter {name!r}: {nearest(name, list(declared))}")
        checked = {}
        for name, param in declared.items():
            if name in given:
                value = given[name]
                optional = not param.required and value is None
                checked[name] = None if optional else coerce(name, param.type, value)
            elif param.required:
                raise ParameterError(f"parameter {name!r} ({param.type}) is missing")
            else:
                checked[name] = None if param.default is None else coerce(name, param.type, param.default)
    _check_encoded(checked)
    return checked


def coerce(name: str, type_name: str, value: Any) -> Any:
    """Return one value in the JSON shape of its type. Raises ParameterError with what would be right."""
    convert = _CONVERSIONS.get(type_name)
    if convert is None:
        raise ParameterError(
            f"parameter {name!r} has the unknown type {type_name!r}: {nearest(type_name, PARAM_TYPES)}"
        )
    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        detail = f" ({error})" if str(error) else ""
        raise ParameterError(f"parameter {name!r} must be {_MEANINGS[type_name]}, not {shown}{detail}") from None


def to_python(type_name: str, value: Any) -> Any:
    """Return a checked value as a Python function wants it: dates and datetimes as such, the rest as it is."""
    if value is None or not isinstance(value, str):
        return value
    if type_name == "date":
        return date.fromisoformat(value)
    if type_name == "datetime":
        return datetime.fromisoformat(value)
    return value


def _check_encoded(params: Mapping[str, Any]) -> None:
    """Refuse what cannot be kept: not JSON, too large, or with text that stores and expressions cannot hold."""
    try:
        encoded = orjson.dumps(params)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"the parameters are no JSON: {error}") from error
    if len(encoded) > MAX_PARAMS_BYTES:
        raise ParameterError(
            f"the parameters take {len(encoded)} bytes as JSON, more than {MAX_PARAMS_BYTES}: "
            "hand over a path or URL of the data instead"
        )
    if b"\\u0000" in encoded and _has_nul(params):
        raise ParameterError("a parameter holds a NUL character, which neither stores nor expressions can hold")


def _has_nul(value: Any) -> bool:
    """Find a NUL in nested text."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, Sequence) and any(_has_nul(part) for part in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int):
        raise TypeError
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond 64 bits")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("too large") from None
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError


def _date(value: Any) -> str:
    if isinstance(value, datetime):
        raise TypeError
    if isinstance(value, date):
        return value.isoformat()
    return date.fromisoformat(_text(value)).isoformat()


def _datetime(value: Any) -> str:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError("it has no UTC offset; end it with Z or +hh:mm")
    try:
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("out of range") from None


def _list(value: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError
    return [_any(part) for part in value]


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return {key: _any(part) for key, part in value.items()}


def _any(value: Any, depth: int = 64) -> Any:
    if depth <= 0:
        raise ValueError("nested too deeply")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime):
        return _datetime(value)
    if isinstance(value, date):
        return _date(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _any(part, depth - 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_any(part, depth - 1) for part in value]
    raise ValueError


_CONVERSIONS = {
    "str": _text,
    "int": _integer,
    "float": _number,
    "bool": _truth,
    "date": _date,
    "datetime": _datetime,
    "list": _list,
    "map": _map,
    "any": _any,
}
_MEANINGS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date like 2026-01-31",
    "datetime": "a moment like 2026-01-31T06:00:00Z",
    "list": "a list",
    "map": "a map with text keys",
    "any": "a JSON value",
}
