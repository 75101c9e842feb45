"""Conditions taken apart: which conjuncts, alternatives and comparisons a CEL condition is made of. On demand only.

In flow the text of a condition that compiles; out flows a tree of conditions, each with its own text, and for the
innermost ones the nodes of the syntax tree. What the compiler found out says where the operators are; the text between
them is cut out and compiled by itself, so that each part is judged by the very runtime that judges the whole. A text
that cannot be cut apart (never seen, but for strange comments) stays whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from struct import unpack
from typing import Any

from triggers.celast import message_bytes, message_fields, message_int
from triggers.errors import ExpressionError
from triggers.expression import Expression, compile_expression
from triggers.scope import EVENT_SCOPE, ITEM_SCOPE, environments, names_of

MAX_PARTS = 50
_STRINGS = re.compile(r"'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_WORDS = {"_&&_": "and", "_||_": "or", "!_": "not", "_?_:_": "if"}
_SIZES = {"_&&_": 2, "_||_": 2, "!_": 1}
_CONST, _IDENT, _SELECT, _CALL, _LIST, _COMPREHENSION = 3, 4, 5, 6, 7, 9
_RANGE, _STEP = 2, 6  # of a comprehension: what it goes over, and what it does with each element


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the syntax tree. `kind`: const ident select has call list other; `value` is a constant's.

    `name` is the variable's, the field's or the function's; of a member call the first of `args` is the receiver.
    """

    kind: str
    name: str = ""
    args: "tuple[Node, ...]" = ()
    value: Any = None
    position: int = -1


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: `op` is and, or, not, if, or leaf. `span` is where its text stands in the whole."""

    op: str
    text: str
    node: Node
    expression: Expression
    parts: "tuple[Condition, ...]" = ()


@lru_cache(maxsize=512)
def conditions_of(text: str, *, items: bool) -> Condition:
    """Take a condition apart. `items`: it may look at an element. The text compiles."""
    expression = _compiled(text, items=items)
    root = _read(text, items=items)
    return _condition(text, (0, len(text)), root, items=items) or Condition("leaf", text.strip(), root, expression)


def operands(condition: Condition, *, items: bool) -> tuple[Expression, Expression] | None:
    """Return both sides of a comparison (or of `in`), each as an expression; None when they cannot be cut apart."""
    whole = _read(condition.text, items=items)
    size = 2 if whole.name in ("@in", "_==_", "_!=_", "_<=_", "_>=_") else 1
    start, end = _bare(condition.text, (0, len(condition.text)))
    try:
        left = condition.text[start : whole.position]
        right = condition.text[whole.position + size : end]
        return _compiled(left, items=items), _compiled(right, items=items)
    except ExpressionError:
        return None


def node_of(text: str) -> Node:
    """Return the syntax tree of an expression over an event. The text compiles."""
    return _read(text, items=False)


def nodes(root: Node) -> Iterator[Node]:
    """Yield a node and all below it."""
    yield root
    for child in root.args:
        yield from nodes(child)


def _condition(whole: str, span: tuple[int, int], node: Node, *, items: bool) -> Condition | None:
    start, end = _bare(whole, span)
    text = whole[start:end]
    try:
        expression = _compiled(text, items=items)
    except ExpressionError:
        return None
    leaf = Condition("leaf", text, node, expression)
    op = _WORDS.get(node.name) if node.kind == "call" else None
    if op is None:
        return leaf
    spans = _spans(whole, (start, end), node)
    parts = [
        _condition(whole, part, child, items=items) if part[0] < part[1] else None
        for part, child in zip(spans, node.args, strict=True)
    ]
    if any(part is None for part in parts):
        return leaf
    flat: list[Condition] = []
    for part in parts:
        if part is not None:
            flat.extend(part.parts if part.op == op and op in ("and", "or") else (part,))
    return Condition(op, text, node, expression, tuple(flat)) if len(flat) <= MAX_PARTS else leaf


def _spans(whole: str, span: tuple[int, int], node: Node) -> list[tuple[int, int]]:
    start, end = span
    at = node.position
    if node.name == "!_":
        return [(at + 1, end)]
    if node.name == "_?_:_":
        colon = _colon(whole, at + 1, end)
        return [(start, at), (at + 1, colon), (colon + 1, end)]
    return [(start, at), (at + _SIZES[node.name], end)]


def _colon(whole: str, start: int, end: int) -> int:
    """Return where the `:` of a ternary stands: the first that is in no bracket, since its middle holds no other."""
    blanked = _blanked(whole)
    depth = 0
    for index in range(start, end):
        mark = blanked[index]
        depth += (mark in "([{") - (mark in ")]}")
        if mark == ":" and depth == 0:
            return index
    return end


def _bare(whole: str, span: tuple[int, int]) -> tuple[int, int]:
    """Return a span without the blanks and the parentheses around it."""
    start, end = span
    blanked = _blanked(whole)
    while start < end:
        if blanked[start].isspace():
            start += 1
        elif blanked[end - 1].isspace():
            end -= 1
        elif blanked[start] == "(" and _closing(blanked, start) == end - 1:
            start, end = start + 1, end - 1
        else:
            break
    return start, end


def _closing(text: str, start: int) -> int:
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] in "([{") - (text[index] in ")]}")
        if depth == 0:
            return index
    return -1


def _blanked(text: str) -> str:
    """Return the text with its literals blanked out, so that what stands in them is no operator."""
    return _STRINGS.sub(lambda found: "~" * len(found.group()), text)


@lru_cache(maxsize=2_048)
def _compiled(text: str, *, items: bool) -> Expression:
    return compile_expression(text, ITEM_SCOPE if items else EVENT_SCOPE)


# -- the compiler's own tree -------------------------------------------------------------------------------------------
@lru_cache(maxsize=2_048)
def _read(text: str, *, items: bool) -> Node:
    checker, _ = environments(names_of(ITEM_SCOPE if items else EVENT_SCOPE))
    wrapped = dict(message_fields(checker.compile(text).serialize()))
    root, positions = b"", {}
    for number, value in message_fields(message_bytes(wrapped[2])):
        if number == 4:
            root = message_bytes(value)
        elif number == 5:
            for field, entry in message_fields(message_bytes(value)):
                if field == 4:
                    pair = dict(message_fields(message_bytes(entry)))
                    positions[message_int(pair.get(1, 0))] = message_int(pair.get(2, 0))
    return _node(root, positions)


def _node(raw: bytes, positions: dict[int, int]) -> Node:
    found = dict(message_fields(raw))
    at = positions.get(message_int(found.get(2, 0)), -1)
    kind = next((kind for kind in found if kind != 2), 0)
    body = list(message_fields(message_bytes(found.get(kind, b""))))
    fields = dict(body)
    if kind == _CONST:
        return Node("const", value=_constant(fields), position=at)
    if kind == _IDENT:
        return Node("ident", message_bytes(fields.get(1, b"")).decode(), position=at)
    if kind == _SELECT:
        name = message_bytes(fields.get(2, b"")).decode()
        operand = _node(message_bytes(fields.get(1, b"")), positions)
        return Node("has" if fields.get(3) else "select", name, (operand,), position=at)
    if kind == _CALL:
        args = tuple(_node(message_bytes(value), positions) for number, value in body if number in (1, 3))
        return Node("call", message_bytes(fields.get(2, b"")).decode(), args, position=at)
    if kind == _LIST:
        args = tuple(_node(message_bytes(value), positions) for number, value in body if number == 1)
        return Node("list", args=args, position=at)
    if kind == _COMPREHENSION:
        args = tuple(_node(message_bytes(fields.get(number, b"")), positions) for number in (_RANGE, _STEP))
        return Node("other", args=args, position=at)
    return Node("other", position=at)


def _constant(fields: dict[int, Any]) -> Any:
    for number, value in fields.items():
        match number:
            case 2:
                return bool(value)
            case 3:
                return value - 2**64 if value >= 2**63 else value
            case 4:
                return value
            case 5:
                return unpack("<d", message_bytes(value))[0]
            case 6:
                return message_bytes(value).decode("utf-8", "replace")
            case 7:
                return message_bytes(value)
    return None
