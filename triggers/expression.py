"""Expressions: CEL text, checked at load, evaluated over an activation.

In flows text and a scope; out flows a compiled expression that gives plain Python values. Whatever goes wrong in the
CEL runtime, on whatever input, is an EvaluationError: no failure is ever taken for false.

Numbers: JSON integers are 64-bit in CEL; a JSON integer beyond that arrives as a double (JSON decoding makes it one).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from triggers.activation import Activation
from triggers.celast import Facts, read_facts
from triggers.complaints import compile_complaint, evaluation_complaint, refuse_traps
from triggers.errors import EvaluationError, ExpressionError, MissingField
from triggers.functions import check_literal
from triggers.pieces import Pieces, pieces_of
from triggers.scope import Scope, environments, names_of

if TYPE_CHECKING:
    from cel_expr_python import cel

MAX_TEXT = 10_000
MAX_MAPPED = 1_000  # the runtime's map and filter take quadratic time and memory: 30 ms at 1,000, seconds at 10,000
MAX_ELEMENTS = 5_000  # of the one list that map or filter turn into the whole result: that is done in pieces
PIECE = 500
MAX_SPLIT = 2_000
_EXPECTED = {
    "bool": ("BOOL",),
    "string": ("STRING", "INT", "UINT", "BOOL", "TIMESTAMP", "wrapper(string)", "NULL"),
    "int": ("INT", "UINT"),
    "list": ("LIST",),
}
_WORDS = {
    "bool": ("true or false", "compare it with something"),
    "string": ("text (or an integer)", "string(…) makes text of it"),
    "int": ("an integer", "int(…) makes an integer of it"),
    "list": ("a list", "[…] makes a list of it"),
}


class Expression:
    """A compiled expression. `names` are the variables it reads; `constant` says that there are none.

    `result` is the type that the checker found (`DYN` when only evaluation can tell). Safe to share between threads as
    long as each activation stays on one.
    """

    __slots__ = (
        "_builds_lists",
        "_error",
        "_pieces",
        "_program",
        "_splits_texts",
        "constant",
        "names",
        "path",
        "result",
        "text",
    )

    def __init__(self, text: str, path: str, program: "cel.Expression", facts: Facts, result: str) -> None:
        self.text = text
        self.path = path
        self.names = facts.names
        self.constant = not facts.names
        self._builds_lists = facts.builds_lists
        self._splits_texts = facts.splits_texts
        self._pieces = pieces_of(facts.maps_over, facts.names)
        self.result = result
        self._program = program
        self._error = _error_type()

    def evaluate(self, activation: Activation) -> Any:
        """Return the value: None, bool, int, float, str, bytes, datetime, timedelta, or lists and dicts of such.

        Raises EvaluationError (MissingField, Unreadable).
        """
        if self._pieces is not None:
            elements = self._pieces.elements(activation)
            if len(elements) > PIECE:
                return self._in_pieces(self._pieces, elements, activation)
        return self._evaluate(activation)

    def _in_pieces(self, pieces: Pieces, elements: Sequence[Any], activation: Activation) -> list[Any]:
        """Evaluate over a few elements at a time: the runtime's time and memory grow with the square of a list."""
        if len(elements) > MAX_ELEMENTS:
            raise EvaluationError(f"{pieces} holds {len(elements)} elements; map and filter take {MAX_ELEMENTS}")
        result: list[Any] = []
        for start in range(0, len(elements), PIECE):
            result += self._evaluate(pieces.with_only(activation, elements[start : start + PIECE]))
        return result

    def _evaluate(self, activation: Activation) -> Any:
        native = activation.bind(self.names)
        if self._builds_lists:
            self._refuse_long_lists(activation)
        try:
            value = self._program.eval(native)
            failed = value.type() == self._error
            result = value.plain_value()
        except Exception as error:
            raise self._failed(str(error)) from error
        if failed:
            raise self._failed(str(result))
        return bytes(result) if isinstance(result, bytearray) else result

    def holds(self, activation: Activation) -> bool:
        """Return the value of a condition. Raises EvaluationError, also when the value is neither true nor false."""
        native = activation.bind(self.names)
        if self._builds_lists:
            self._refuse_long_lists(activation)
        try:
            value = self._program.eval(native)
            result = value.value()
        except Exception as error:
            raise self._failed(str(error)) from error
        if result is True:
            return True
        if result is False:
            return False
        if value.type() == self._error:
            raise self._failed(str(result))
        raise EvaluationError(f"the condition gave {value.type().name().lower()} where true or false is needed")

    def _refuse_long_lists(self, activation: Activation) -> None:
        for name in self.names:
            elements, characters = activation.extent(name)
            if elements > MAX_MAPPED:
                raise EvaluationError(
                    f"{name} holds a list of {elements} elements; map and filter take {MAX_MAPPED}, exists and all more"
                )
            if self._splits_texts and characters > MAX_SPLIT:
                raise EvaluationError(f"{name} holds {characters} characters; split takes {MAX_SPLIT} beside map")

    def _failed(self, complaint: str) -> EvaluationError:
        words, missing = evaluation_complaint(complaint)
        return MissingField(words) if missing else EvaluationError(words)


def compile_expression(text: str, scope: Scope, *, path: str = "", expect: str = "any") -> Expression:
    """Compile CEL text over the names of `scope` (name to type, or bare names; see `triggers.scope`).

    `expect` is what the value must be as far as the checker can tell: bool string int list any. Raises ExpressionError
    with the offset of the character at fault and a remedy.
    """
    if not text.strip():
        raise ExpressionError("the expression is empty", path, "write a CEL expression, or leave the field out", 0)
    if len(text) > MAX_TEXT:
        raise ExpressionError(
            f"the expression has {len(text)} characters, {MAX_TEXT} are allowed",
            path,
            "move the logic into the pipeline",
        )
    names = names_of(scope)
    declared = tuple(name for name, _ in names)
    refuse_traps(text, declared, path)
    checker, runner = environments(names)
    try:
        checked = checker.compile(text)
    except Exception as error:
        raise compile_complaint(str(error), text, declared, path) from error
    result = checked.return_type().name()
    serialized = checked.serialize()
    facts = read_facts(serialized)
    if facts.holds_nul:
        raise ExpressionError("a text of the expression holds a NUL character", path, "no event with NUL gets here", 0)
    for literal in facts.literals:
        check_literal(literal.function, literal.position, literal.text, literal.offset, path)
    _check_result(result, expect, path)
    facts = replace(facts, names=facts.names.intersection(declared))
    return Expression(text, path, runner.deserialize(serialized), facts, result)


def _check_result(result: str, expect: str, path: str) -> None:
    if result.startswith("optional_type"):
        hint = "end with .orValue(…) to say what holds without it"
        raise ExpressionError("the expression gives an optional value", path, hint, 0)
    allowed = _EXPECTED.get(expect)
    if allowed is None or result == "DYN" or result.split("<", 1)[0] in allowed:
        return
    plain = result.replace("wrapper(", "").replace(")", "").lower()
    words, hint = _WORDS[expect]
    raise ExpressionError(f"the expression gives {plain} where {words} is needed", path, hint, 0)


@lru_cache(maxsize=1)
def _error_type() -> "cel.Type":
    from cel_expr_python import cel

    return cel.Type.ERROR
