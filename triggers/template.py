"""Templates: literal JSON-like values with `${{ … }}` in their texts.

A text that is one whole `${{ … }}` becomes the expression's value with its type; in mixed text the value is written
as text; `$${{` stands for a literal `${{`. Out flow JSON values: moments as RFC 3339 text, bytes as base64, durations
as `1.5s`.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from triggers.activation import Activation
from triggers.errors import EvaluationError, ExpressionError
from triggers.expression import Expression, compile_expression
from triggers.scope import Scope

_OPEN, _CLOSE, _ESCAPED = "${{", "}}", "$${{"
_QUOTES = ("'''", '"""', "'", '"')

Render = Callable[[Activation], Any]


class Template:
    """A compiled template. `constant` says that it holds no expression; `expressions` are all of them, in order."""

    __slots__ = ("_render", "_value", "constant", "expressions", "names")

    def __init__(self, value: Any, render: Render | None, expressions: Sequence[Expression]) -> None:
        self.expressions = tuple(expressions)
        self.names = frozenset().union(*(expression.names for expression in self.expressions))
        self.constant = render is None
        self._value = value
        self._render = render

    def render(self, activation: Activation) -> Any:
        """Return the JSON value. Raises EvaluationError, naming the place within the template."""
        return self._value if self._render is None else self._render(activation)


def compile_template(value: Any, scope: Scope, *, path: str = "") -> Template:
    """Compile nested lists, maps and texts. Raises ExpressionError with `path` extended to the place at fault."""
    expressions: list[Expression] = []
    literal, render = _compile(value, scope, path, expressions)
    return Template(literal, render, expressions)


def compile_or_template(text: str, scope: Scope, *, path: str = "", expect: str = "any") -> Expression:
    """Compile an expression field: bare CEL, or the same as one whole `${{ … }}`. Raises ExpressionError."""
    stripped = text.strip()
    if stripped.startswith(_OPEN):
        end = _end_of(stripped, len(_OPEN), path)
        if end + len(_CLOSE) == len(stripped):
            return compile_expression(stripped[len(_OPEN) : end], scope, path=path, expect=expect)
        hint = "this field is CEL already: join texts with +"
        raise ExpressionError("text around ${{ … }} in an expression field", path, hint, end + len(_CLOSE))
    return compile_expression(text, scope, path=path, expect=expect)


def compile_function(text: str, names: Sequence[str], *, path: str = "") -> Callable[[Mapping[str, Any]], Any]:
    """Compile an expression over plain variables into a function of their values, for sensors' fields such as `id`.

    Raises ExpressionError; the function returns a JSON value and raises EvaluationError.
    """
    expression = compile_or_template(text, names, path=path)

    def function(values: Mapping[str, Any]) -> Any:
        return jsonable(expression.evaluate(Activation(values)))

    return function


def compile_values(value: Any, names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """Compile a template over plain variables into a function of their values, for what sensors ask with.

    Raises ExpressionError; the function returns a JSON value and raises EvaluationError.
    """
    template = compile_template(value, names)

    def function(values: Mapping[str, Any]) -> Any:
        return template.render(Activation(values))

    return function


def _compile(value: Any, scope: Scope, path: str, expressions: list[Expression]) -> tuple[Any, Render | None]:
    """Return (literal value, None) or (None, how to render it)."""
    if isinstance(value, str):
        return _compile_text(value, scope, path, expressions)
    if isinstance(value, Mapping):
        fields: dict[str, tuple[Any, Render | None]] = {}
        for key, item in value.items():
            if _OPEN in str(key):
                raise ExpressionError(
                    f"the key {key!r} holds ${{{{ … }}}}", path, "keys are literal; only values are evaluated"
                )
            fields[str(key)] = _compile(item, scope, f"{path}.{key}" if path else str(key), expressions)
        if all(render is None for _, render in fields.values()):
            return {key: literal for key, (literal, _) in fields.items()}, None
        return None, lambda activation: {
            key: literal if render is None else render(activation) for key, (literal, render) in fields.items()
        }
    if isinstance(value, list | tuple):
        items = [_compile(item, scope, f"{path}[{i}]", expressions) for i, item in enumerate(value)]
        if all(render is None for _, render in items):
            return [literal for literal, _ in items], None
        return None, lambda activation: [literal if render is None else render(activation) for literal, render in items]
    return value, None


def _compile_text(text: str, scope: Scope, path: str, expressions: list[Expression]) -> tuple[Any, Render | None]:
    if _OPEN not in text:
        return text, None
    parts = _split(text, scope, path)
    found = [part for part in parts if isinstance(part, Expression)]
    expressions.extend(found)
    if not found:
        return "".join(str(part) for part in parts), None
    if len(parts) == 1:
        whole = found[0]
        return None, lambda activation: _at(path, whole, activation, jsonable)

    def mixed(activation: Activation) -> str:
        return "".join(part if isinstance(part, str) else _at(path, part, activation, as_text) for part in parts)

    return None, mixed


def _at(path: str, expression: Expression, activation: Activation, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(expression.evaluate(activation))
    except EvaluationError as error:
        where = f"{path}: " if path else ""
        raise type(error)(f"{where}{error} in ${{{{ {expression.text.strip()} }}}}") from error


def _split(text: str, scope: Scope, path: str) -> list[str | Expression]:
    parts: list[str | Expression] = []
    literal, at = "", 0
    while True:
        start = text.find(_OPEN, at)
        if start < 0:
            literal += text[at:]
            break
        if start > at and text[start - 1] == "$":
            literal += text[at : start - 1] + _OPEN
            at = start + len(_OPEN)
            continue
        literal += text[at:start]
        end = _end_of(text, start + len(_OPEN), path)
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(compile_expression(text[start + len(_OPEN) : end], scope, path=path))
        at = end + len(_CLOSE)
    if literal:
        parts.append(literal)
    return parts


def _end_of(text: str, at: int, path: str) -> int:
    """Return where the `}}` stands that ends the expression starting at `at`: not in a text literal, not in a map."""
    depth = 0
    while at < len(text):
        quote = next((quote for quote in _QUOTES if text.startswith(quote, at)), None)
        if quote is not None:
            at = _end_of_quote(text, at, quote, path)
            continue
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            if depth == 0 and text.startswith(_CLOSE, at):
                return at
            depth -= 1
        at += 1
    raise ExpressionError(
        "${{ is not closed", path, "end the expression with }}, or write $${{ for the characters themselves", at
    )


def _end_of_quote(text: str, at: int, quote: str, path: str) -> int:
    raw = at > 0 and text[at - 1] in "rR"
    start, at = at, at + len(quote)
    while at < len(text):
        if text[at] == "\\" and not raw:
            at += 2
        elif text.startswith(quote, at):
            return at + len(quote)
        else:
            at += 1
    raise ExpressionError("a text in ${{ … }} is not closed", path, f"end it with {quote}", start)


def jsonable(value: Any) -> Any:
    """Return a CEL value as JSON value; map keys come sorted, so that equal values make equal text.

    Raises EvaluationError for what JSON cannot say (infinity, types, keys that are not text).
    """
    try:
        return _jsonable(value)
    except RecursionError:
        raise EvaluationError("the value is nested too deeply") from None


def _jsonable(value: Any) -> Any:
    kind = value.__class__
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise EvaluationError(f"{value} cannot be written as JSON")
        return value
    if kind is list:
        return [_jsonable(item) for item in value]
    if kind is dict:
        if not all(key.__class__ is str for key in value):
            raise EvaluationError("a map with keys that are not text cannot be written as JSON")
        return {key: _jsonable(value[key]) for key in sorted(value)}
    if kind is datetime:
        return moment_text(value)
    if kind is timedelta:
        return f"{value / timedelta(seconds=1):.6f}".rstrip("0").rstrip(".") + "s"
    if kind is bytes or kind is bytearray:
        return base64.b64encode(value).decode()
    raise EvaluationError(f"a {kind.__name__.lower()} cannot be written as JSON")


def as_text(value: Any) -> str:
    """Return a CEL value as it stands in mixed text. Raises EvaluationError for null: nothing is not a text."""
    if value.__class__ is str:
        return str(value)
    if value is None:
        raise EvaluationError("null cannot stand in a text (say what stands instead)")
    result = jsonable(value)
    return result if isinstance(result, str) else orjson.dumps(result).decode()


def moment_text(moment: datetime) -> str:
    """Return a moment as RFC 3339 text in UTC, with as many digits of a second as it needs."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
