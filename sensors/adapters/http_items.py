"""What the items of an answer are: where they stand, which is which, and which version of it. Pure.

An expression that is only a path (`body.data.items`, `item.id`) is walked here and not by the CEL runtime: what one
item holds (NUL, a number beyond 64 bits) then cannot spoil its neighbours. The identity of an item is its `id` with its
`version`: whatever `version` gives that is neither text nor number counts by its content. An item without an id is
known by its content alone.
"""

import hashlib
import json as encoder
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sensors.adapters.high_water import Mark, mark_of
from sensors.headers import safe_text
from sensors.kind import SensorContext

MAX_DEPTH: Final = 128
ITEM_SCOPE: Final = ("body", "item", "headers")
BODY_SCOPE: Final = ("body", "headers")
MAX_ID: Final = 512  # bytes; a longer one is known by its hash
MAX_VERSION: Final = 256
_HUGE: Final = re.compile(rb"[:\[,\s]-?[0-9]{19,}")
_PATH: Final = re.compile(r"(?:\$\{\{\s*)?([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)*)(?:\s*\}\})?", re.ASCII)

Evaluate = Callable[[Mapping[str, Any]], Any]


class Missing(ValueError):
    """A field that a path names is not there."""


class BadAnswer(ValueError):
    """The answer is not what the options say; the sentence says how."""


class BadItem(ValueError):
    """One item cannot be identified; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `key` names it in memory, `token` its version there; `id` is its event's id, `subject` its own.

    `known` says whether the item had an id of its own.
    """

    id: str
    key: str
    token: str
    subject: str
    data: bytes
    mark: Mark | None
    known: bool


def evaluator(text: str, names: tuple[str, ...], what: str, context: SensorContext) -> Evaluate:
    """Compile an expression; paths are walked, all else is CEL. Raises ValueError when it cannot be compiled."""
    compiled = context.compile(text, names) if context.compile is not None else None
    found = _PATH.fullmatch(text.strip())
    if found and found[1] in names and text.strip().startswith("$") == text.strip().endswith("}"):
        root, steps = found[1], tuple(found[2].split(".")[1:])
        return lambda values: _walked(values[root], root, steps)
    if compiled is None:
        raise ValueError(f"`{what}` is an expression, and none can be compiled here; write a path such as body.items")
    return compiled


def _walked(value: Any, root: str, steps: Sequence[str]) -> Any:
    for step in steps:
        if not isinstance(value, dict) or step not in value:
            raise Missing(f'there is no field "{step}" in {root}')
        value = value[step]
    return value


def parse(body: bytes | bytearray) -> Any:
    """Parse JSON, also with lone surrogates in escapes. Raises BadAnswer for what is none, or is nested too deep."""
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    try:
        # The fast parser makes doubles of integers beyond 64 bits: two ids could become one.
        document = orjson.loads(body) if _HUGE.search(body) is None else _exact(body)
    except orjson.JSONDecodeError as error:
        document = _odd(body, error)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(document)
    return document


def _exact(body: bytes | bytearray) -> Any:
    """Parse JSON with integers of any size; what the slow parser does not take is told by the fast one."""
    try:
        return encoder.loads(body.decode("utf-8", "strict"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return orjson.loads(body)


def _odd(body: bytes | bytearray, error: Exception) -> Any:
    if b"\\ud" in body.lower():
        try:
            return encoder.loads(body.decode("utf-8", "strict"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            pass
    if "depth" in str(error) or "recursion" in str(error):
        raise BadAnswer(f"it is nested deeper than {MAX_DEPTH} levels") from error
    raise BadAnswer(f"it is no JSON: {error}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_depth(document: Any) -> None:
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadAnswer(f"it is nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for value in level:
            inside = value.values() if type(value) is dict else value if type(value) is list else ()
            below.extend(item for item in inside if type(item) in (dict, list))
        level = below


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys: equal values make equal bytes."""
    return _dumped(value, orjson.OPT_SORT_KEYS)


def written(value: Any) -> bytes:
    """Return JSON with its fields in the order in which they came."""
    return _dumped(value, 0)


def _dumped(value: Any, option: int) -> bytes:
    try:
        return orjson.dumps(value, option=option)
    except TypeError:  # lone surrogates, or numbers beyond 64 bits
        return encoder.dumps(value, sort_keys=bool(option), separators=(",", ":")).encode()


def content_hash(data: bytes) -> str:
    """Return the name of some content."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Reader:
    """Finds items and says which is which."""

    def __init__(
        self, items: str, id: str | None, version: str | None, high: str | None, context: SensorContext
    ) -> None:
        """Raise ValueError for what is no expression."""
        self._items = evaluator(items, BODY_SCOPE, "items", context)
        self._id = None if id is None else evaluator(id, ITEM_SCOPE, "id", context)
        self._version = None if version is None else evaluator(version, ITEM_SCOPE, "version", context)
        self._high = None if high is None else evaluator(high, ITEM_SCOPE, "high", context)

    def items(self, body: Any, headers: Mapping[str, str]) -> list[Any]:
        """Return the items of a page; null is none. Raises BadAnswer."""
        if body is None:
            return []
        try:
            found = self._items({"body": body, "headers": headers})
        except Exception as error:
            raise BadAnswer(f"`items` gives no list: {error}") from error
        if found is None:
            return []
        if not isinstance(found, list):
            raise BadAnswer(f"`items` gives {_word(found)} where a list is needed")
        return found

    def identify(self, item: Any, body: Any, headers: Mapping[str, str]) -> Item:
        """Return an item with its identity. Raises BadItem."""
        scope = {"body": body, "item": item, "headers": headers}
        id_ = _text(self._value(self._id, scope, "id"), MAX_ID)
        known = id_ is not None
        if id_ is None:
            id_ = content_hash(canonical(item))
        version = _text(self._value(self._version, scope, "version"), MAX_VERSION) if known else None
        token = "" if version is None else version
        # A version may hold an @, so it is escaped there: what stands behind the last one is the version.
        event_id = f"{id_}@{token.replace('%', '%25').replace('@', '%40')}" if known and self._version else id_
        try:
            mark = mark_of(self._value(self._high, scope, "high"))
        except ValueError as error:
            raise BadItem(f"`high` cannot be used: {error}") from error
        return Item(event_id, f"i:{id_}", token, id_, written(item), mark, known)

    @property
    def named(self) -> bool:
        """Say whether items are said to have an id."""
        return self._id is not None

    @staticmethod
    def _value(evaluate: Evaluate | None, scope: Mapping[str, Any], what: str) -> Any:
        if evaluate is None:
            return None
        try:
            return evaluate(scope)
        except Missing:
            return None
        except Exception as error:
            raise BadItem(f"`{what}` cannot be evaluated on the item: {error}") from error


def _text(value: Any, most: int) -> str | None:
    """Return an id or a version as text; None for none."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        text = safe_text(value)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float):
        text = str(value)
    else:
        return content_hash(canonical(value))
    return text if len(text.encode()) <= most else content_hash(text.encode())


def _word(value: Any) -> str:
    names = {dict: "an object", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
