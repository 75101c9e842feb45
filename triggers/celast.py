"""Reads what the CEL compiler found out: which variables an expression reads, and which literals it hands to functions.

In flows the serialized `cel.expr.CheckedExpr` of a compiled expression (protobuf wire format, wrapped in an `Any`);
out flow names and literals. The runtime offers no other door to its syntax tree, and the handful of fields needed
here (numbers are those of cel/expr/checked.proto and syntax.proto) does not justify generated protobuf classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_ANY_VALUE = 2
_REFERENCE_MAP, _EXPR, _SOURCE_INFO = 2, 4, 5
_MAP_KEY, _MAP_VALUE = 1, 2
_POSITIONS = 4
_ID, _CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
_STRING_CONSTANT, _BYTES_CONSTANT = 6, 7
# fields that hold expressions, by kind of node
_CHILDREN = {_SELECT: (1,), _CALL: (1, 3), _LIST: (1,), _COMPREHENSION: (2, 4, 5, 6, 7)}
_ACCUMULATOR = 4  # of a comprehension: what it starts with
_RANGE, _SECOND_VARIABLE = 2, 8
_OPERAND, _FIELD, _TEST_ONLY = 1, 2, 3  # of a select
_NAME = 1  # of an ident
_ENTRIES, _ENTRY_EXPRESSIONS = 2, (3, 4)

Value = int | bytes


@dataclass(frozen=True, slots=True)
class LiteralArgument:
    """A text literal handed to a function, and where; `position` 0 is the receiver of a member call."""

    function: str
    position: int
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the compiler knows of one expression."""

    names: frozenset[str]
    literals: tuple[LiteralArgument, ...]
    builds_lists: bool  # by `map` or `filter`
    splits_texts: bool
    holds_nul: bool  # in a text or bytes literal
    maps_over: tuple[str, ...] = ()  # the list whose elements the whole result is made of, one by one: a path


def read_facts(serialized: bytes) -> Facts:
    """Read the facts of a serialized checked expression."""
    names: set[str] = set()
    positions: dict[int, int] = {}
    root = b""
    for number, value in message_fields(message_bytes(dict(message_fields(serialized))[_ANY_VALUE])):
        if number == _REFERENCE_MAP:
            reference = message_bytes(dict(message_fields(message_bytes(value))).get(_MAP_VALUE, b""))
            names.update(message_bytes(name).decode() for field, name in message_fields(reference) if field == 1)
        elif number == _EXPR:
            root = message_bytes(value)
        elif number == _SOURCE_INFO:
            for field, entry in message_fields(message_bytes(value)):
                if field == _POSITIONS:
                    pair = dict(message_fields(message_bytes(entry)))
                    positions[message_int(pair.get(_MAP_KEY, 0))] = message_int(pair.get(_MAP_VALUE, 0))
    nodes = list(_nodes(root))
    calls = [value for kind, value in nodes if kind == _CALL]
    return Facts(
        names=frozenset(names),
        literals=tuple(literal for call in calls for literal in _arguments(call, positions)),
        builds_lists=any(kind == _COMPREHENSION and _accumulates_a_list(value) for kind, value in nodes),
        holds_nul=any(kind == _CONST and _holds_nul(value) for kind, value in nodes),
        splits_texts=any((2, b"split") in message_fields(call) for call in calls),
        maps_over=_maps_over(root, [value for kind, value in nodes if kind == _IDENT]),
    )


def _maps_over(root: bytes, idents: list[bytes]) -> tuple[str, ...]:
    """Return the path of the list that `map` and `filter` turn into the result element by element, () for none.

    Such a result can be worked out in pieces: nothing else may look at the list.
    """
    node = root
    steps = 0
    while True:
        fields = dict(message_fields(node))
        if _COMPREHENSION not in fields:
            break
        comprehension = message_bytes(fields[_COMPREHENSION])
        parts = dict(message_fields(comprehension))
        if not _accumulates_a_list(comprehension) or _SECOND_VARIABLE in parts:
            return ()
        node, steps = message_bytes(parts.get(_RANGE, b"")), steps + 1
    path: list[str] = []
    while _SELECT in fields:
        select = dict(message_fields(message_bytes(fields[_SELECT])))
        if _TEST_ONLY in select:
            return ()
        path.insert(0, message_bytes(select.get(_FIELD, b"")).decode())
        fields = dict(message_fields(message_bytes(select.get(_OPERAND, b""))))
    if not steps or _IDENT not in fields:
        return ()
    name = message_bytes(dict(message_fields(message_bytes(fields[_IDENT]))).get(_NAME, b""))
    if sum(dict(message_fields(ident)).get(_NAME) == name for ident in idents) != 1:
        return ()
    return (name.decode(), *path)


def _nodes(root: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, content) of every node below `root`."""
    waiting = [root]
    while waiting:
        for kind, value in message_fields(waiting.pop()):
            content = message_bytes(value)
            yield kind, content
            if kind in _CHILDREN:
                waiting.extend(
                    message_bytes(child) for number, child in message_fields(content) if number in _CHILDREN[kind]
                )
            elif kind == _STRUCT:
                entries = (
                    message_fields(message_bytes(entry))
                    for number, entry in message_fields(content)
                    if number == _ENTRIES
                )
                waiting.extend(
                    message_bytes(part) for entry in entries for field, part in entry if field in _ENTRY_EXPRESSIONS
                )


def _holds_nul(constant: bytes) -> bool:
    return any(
        b"\0" in message_bytes(value)
        for kind, value in message_fields(constant)
        if kind in (_STRING_CONSTANT, _BYTES_CONSTANT)
    )


def _accumulates_a_list(comprehension: bytes) -> bool:
    start = message_bytes(dict(message_fields(comprehension)).get(_ACCUMULATOR, b""))
    return any(kind == _LIST for kind, _ in message_fields(start))


def _arguments(call: bytes, positions: dict[int, int]) -> Iterator[LiteralArgument]:
    function, arguments = "", []
    for number, value in message_fields(call):
        if number == 2:
            function = message_bytes(value).decode()
        else:
            arguments.append(message_bytes(value))
    for position, argument in enumerate(arguments):
        node = dict(message_fields(argument))
        constant = dict(message_fields(message_bytes(node.get(_CONST, b""))))
        if _STRING_CONSTANT in constant:
            text = message_bytes(constant[_STRING_CONSTANT]).decode("utf-8", "replace")
            yield LiteralArgument(function, position, text, positions.get(message_int(node.get(_ID, 0)), -1))


def message_fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value) of one message; fixed-width fields come as their bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if wire == 2:
            length, at = _varint(message, at)
        else:
            length = 8 if wire == 1 else 4
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def message_bytes(value: Value) -> bytes:
    """Return a field's bytes, none for a number."""
    return value if isinstance(value, bytes) else b""


def message_int(value: Value) -> int:
    """Return a field's number, 0 for bytes."""
    return value if isinstance(value, int) else 0
