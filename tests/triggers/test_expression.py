"""Expressions: what compiles, what is refused with a remedy, and that no failure is ever false."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.activation import Activation
from triggers.errors import EvaluationError, ExpressionError, MissingField, Unreadable
from triggers.expression import compile_expression
from triggers.scope import EVENT_SCOPE, ITEM_SCOPE
from triggers.template import jsonable


def evaluate(text: str, **values: Any) -> Any:
    return compile_expression(text, tuple(values) or ("x",)).evaluate(Activation(values))


@pytest.mark.parametrize(
    ("text", "words", "hint", "offset"),
    [
        pytest.param("event.subjct == 'a'", "event has no field subjct", "did you mean event.subject?", 0, id="field"),
        pytest.param("true && evnt.data.x", "nothing is named evnt here", "did you mean event?", 8, id="name"),
        pytest.param("event == 1", "event is no value by itself", "name a field of it", 0, id="bare envelope"),
        pytest.param("item.x == 1", "nothing is named item here", "only in triggers with `each`", 0, id="item"),
        pytest.param("params.x == 1", "nothing is named params here", "here it is `event`", 0, id="other scope"),
        pytest.param("event.subject.endWith('x')", "there is no function endWith", "endsWith", 14, id="function"),
        pytest.param("event.data.x ==", "the expression ends too early", "something is missing", 15, id="end"),
        pytest.param("1 +\n + foo", "Syntax error", "", 5, id="second line"),
        pytest.param("'æøå' == foo", "nothing is named foo here", "in scope here", 9, id="offset in characters"),
        pytest.param("event.subject > 3", "cannot apply > to (string, int)", "convert", 14, id="types"),
        pytest.param("event.type == 3", "cannot apply == to (string, int)", "convert", 11, id="typed envelope"),
        pytest.param("event.subject", "gives string where true or false is needed", "compare", 0, id="no condition"),
        pytest.param("event.data.?x", "optional", "orValue", 0, id="optional"),
        pytest.param("event.subject.matches('a(')", "not an RE2 regular expression", "RE2", 22, id="regex"),
        pytest.param(
            "capture(event.id, '(?=a)') == ''", "not an RE2 regular expression", "lookarounds", 18, id="lookahead"
        ),
        pytest.param("day(now, 'Mars/Olympus') == ''", "unknown time zone", "", 9, id="time zone"),
        pytest.param("has(event.subject)", "event.subject always exists", "event.subject != null", 0, id="has"),
        pytest.param("event.id == 'a\\u0000'", "NUL", "", 0, id="nul escape"),
        pytest.param("event.id == 'a\0'", "NUL", "", 0, id="nul"),
        pytest.param("event.id == '\ud800'", "surrogate", "", 13, id="surrogate"),
        pytest.param("  ", "empty", "leave the field out", 0, id="empty"),
        pytest.param("(" * 300 + "true" + ")" * 300, "nested too deeply", "split", -1, id="deep"),
        pytest.param("true" + " && true" * 5000, "10000 are allowed", "pipeline", -1, id="long"),
    ],
)
def test_what_cannot_compile_names_its_remedy(text: str, words: str, hint: str, offset: int) -> None:
    """An expression that cannot be used is refused at load with the place at fault and what would be right."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, EVENT_SCOPE, path="when", expect="bool")

    assert words in str(caught.value)
    assert hint in caught.value.hint
    assert (caught.value.path, caught.value.offset) == ("when", offset)


@given(st.text(max_size=40))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    """Whatever stands in an expression field, compiling it ends in an Expression or an ExpressionError."""
    refused = ""
    names: frozenset[str] = frozenset()
    try:
        names = compile_expression(text, EVENT_SCOPE).names
    except ExpressionError as error:
        refused = str(error)

    assert refused or names <= EVENT_SCOPE.keys()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("'a' + 'b'", set[str](), id="none"),
        pytest.param("event.data.a.b > 1 && event.subject != null", {"event.data", "event.subject"}, id="qualified"),
        pytest.param("item.map(i, i.x + string(now))", {"item", "now"}, id="comprehension"),
        pytest.param("[{'data': 1}].map(event, event.data) == [1]", set[str](), id="shadowed"),
        pytest.param("{'k': {'v': event.id}}.k.v", {"event.id"}, id="map literal"),
    ],
)
def test_an_expression_knows_what_it_reads(text: str, names: set[str]) -> None:
    """`names` are exactly the variables that an expression reads, and it is constant when there are none."""
    compiled = compile_expression(text, ITEM_SCOPE)

    assert (compiled.names, compiled.constant) == (frozenset(names), not names)


@pytest.mark.parametrize(
    ("text", "values", "kind", "words"),
    [
        pytest.param("x.b", {"x": {"a": 1}}, MissingField, 'there is no field "b"', id="field"),
        pytest.param("x.a.b", {"x": {"a": None}}, MissingField, "has no fields", id="field of null"),
        pytest.param("x > 3", {"x": None}, MissingField, "cannot apply > to (null, int)", id="null"),
        pytest.param("x[3]", {"x": [1]}, MissingField, "no such list element", id="element"),
        pytest.param("x < 3", {"x": "q"}, EvaluationError, "cannot apply < to (string, int)", id="types"),
        pytest.param("x / 0", {"x": 1}, EvaluationError, "divide by zero", id="zero"),
        pytest.param("x + 9223372036854775807", {"x": 1}, EvaluationError, "integer overflow", id="overflow"),
        pytest.param("x", {"x": 2**70}, EvaluationError, "beyond 64 bits", id="huge integer"),
        pytest.param("x", {"x": object()}, EvaluationError, "no type", id="object"),
        pytest.param("x", {"x": b"a\0b"}, EvaluationError, "binary", id="binary"),
        pytest.param("'a'.matches(x)", {"x": "("}, EvaluationError, "invalid regular expression", id="regex from data"),
        pytest.param("capture('b', x)", {"x": "a"}, EvaluationError, "does not match", id="no match"),
        pytest.param("capture('b', x)", {"x": "(a)|b"}, EvaluationError, "took no part", id="empty group"),
        pytest.param("capture('b', x)", {"x": "("}, EvaluationError, "not an RE2", id="capture regex"),
        pytest.param(
            "day(timestamp(0), x)", {"x": "../../etc/passwd"}, EvaluationError, "unknown time zone", id="zone"
        ),
        pytest.param("x.all(i, i >= 0)", {"x": list(range(10_001))}, EvaluationError, "10,000", id="budget"),
        pytest.param(
            "size(x.map(i, i))", {"x": list(range(1_001))}, EvaluationError, "map and filter take 1000", id="long map"
        ),
        pytest.param(
            "x.a.filter(i, size(x.a) > 0)",
            {"x": {"a": [0] * 1_001}},
            EvaluationError,
            "map and filter take 1000",
            id="long filter",
        ),
        pytest.param(
            "x.map(i, i)", {"x": list(range(5_001))}, EvaluationError, "map and filter take 5000", id="longest map"
        ),
        pytest.param(
            "x.a.filter(i, true)", {"x": {"a": [0] * 5_001}}, EvaluationError, "take 5000", id="longest filter"
        ),
        pytest.param(
            "x.map(i, i.map(j, j))", {"x": [[0] * 1_001]}, EvaluationError, "take 1000", id="long list within"
        ),
        pytest.param(
            "x.split(',').map(i, i)", {"x": "," * 2_001}, EvaluationError, "split takes 2000", id="long split"
        ),
        pytest.param("x == 'a'", {"x": "a\0b"}, Unreadable, "NUL", id="nul"),
        pytest.param("x.k == 'a'", {"x": {"k": ["a\0b"]}}, Unreadable, "NUL", id="nul inside"),
        pytest.param("size(x)", {"x": {"a\0": 1}}, Unreadable, "NUL", id="nul in a key"),
        pytest.param("x == 'a'", {"x": "\ud800"}, Unreadable, "surrogate", id="surrogate"),
    ],
)
def test_a_failure_is_never_false(text: str, values: Mapping[str, Any], kind: type[Exception], words: str) -> None:
    """Whatever goes wrong in an evaluation is an EvaluationError that says what: text is never cut and compared."""
    with pytest.raises(kind, match=words.replace("(", r"\(").replace(")", r"\)")):
        evaluate(text, **values)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        pytest.param("x", {"x": None}, None, id="null"),
        pytest.param("x == 1", {"x": 1.0}, True, id="numbers compare by value"),
        pytest.param("x", {"x": 2**63}, 2**63, id="unsigned"),
        pytest.param("x + b'c'", {"x": b"ab"}, b"abc", id="bytes"),
        pytest.param("[x, x]", {"x": (1, "a")}, [[1, "a"], [1, "a"]], id="tuples are lists"),
        pytest.param("x.?b.orValue(3)", {"x": {}}, 3, id="optional"),
        pytest.param("math.greatest(x, 2)", {"x": 1}, 2, id="math"),
        pytest.param("x.split(',')", {"x": "a,b"}, ["a", "b"], id="strings"),
        pytest.param("capture(x, '-(\\\\d+)')", {"x": "orders-17.csv"}, "17", id="capture"),
        pytest.param("capture(x, 'ø+')", {"x": "blåbærgrøøt"}, "øø", id="capture without group"),
        pytest.param("day(x, 'Europe/Oslo')", {"x": datetime(2026, 1, 1, 23, 30, tzinfo=UTC)}, "2026-01-02", id="day"),
        pytest.param("x.exists(i, i == 4999)", {"x": list(range(5_000))}, True, id="long lists can be searched"),
        pytest.param("size(x.map(i, i))", {"x": list(range(1_000))}, 1_000, id="longest map"),
        pytest.param("true || x.nope", {"x": {}}, True, id="or absorbs"),
    ],
)
def test_values_come_back_as_plain_python(text: str, values: Mapping[str, Any], expected: Any) -> None:
    """Evaluation gives plain Python values of CEL's own types."""
    assert evaluate(text, **values) == expected


def test_a_condition_must_be_true_or_false() -> None:
    """A condition over untyped data that gives something else is an error, not truthy."""
    condition = compile_expression("x", ("x",), expect="bool")

    with pytest.raises(EvaluationError, match="gave int where true or false is needed"):
        condition.holds(Activation({"x": 1}))


def test_what_is_not_asked_for_is_not_fetched() -> None:
    """An activation fetches a value when the first expression reads it, once, and never what nobody reads."""
    fetched: list[str] = []

    def load(name: str) -> Any:
        fetched.append(name)
        return 1

    activation = Activation(None, load)
    scope = ("x", "y", "z")
    for text in ("x == 1", "x + y == 2", "x + y == 2"):
        assert compile_expression(text, scope).holds(activation)

    assert fetched == ["x", "y"]


def test_a_likely_value_that_cannot_be_had_hurts_only_who_asks() -> None:
    """Binding ahead of need never makes an expression fail that does not read the failing value."""

    def load(name: str) -> Any:
        if name == "y":
            raise EvaluationError("y is broken")
        return 1

    activation = Activation(None, load, frozenset({"x", "y"}))

    assert compile_expression("x == 1", ("x", "y")).holds(activation)
    with pytest.raises(EvaluationError, match="y is broken"):
        compile_expression("y == 1", ("x", "y")).holds(activation)


def test_deep_values_are_refused_not_a_crash() -> None:
    """Nesting beyond what can be walked is an EvaluationError."""
    deep: Any = 1
    for _ in range(5000):
        deep = {"a": deep}

    with pytest.raises(EvaluationError, match="nested too deeply"):
        evaluate("size(x)", x=deep)


def test_expressions_are_shared_between_threads() -> None:
    """One compiled expression gives right answers on several threads at once."""
    condition = compile_expression("x.n % 2 == 0 && x.s.startsWith('a')", ("x",))

    def work(start: int) -> bool:
        return all(
            condition.holds(Activation({"x": {"n": n, "s": "abc"}})) == (n % 2 == 0) for n in range(start, start + 500)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_json_goes_through_unchanged(value: Any) -> None:
    """Every JSON value comes out of the CEL runtime as it went in."""
    assert jsonable(evaluate("x", x=value)) == value


PIECEWISE = [
    ("x.map(i, i.n * 2)", [n * 2 for n in range(4_999)]),
    ("x.filter(i, i.n % 3 == 0).map(i, i.n)", list(range(0, 4_999, 3))),
    ("x.map(i, i.n > 4990, string(i.n) + y)", [f"{n}!" for n in range(4_991, 4_999)]),
]


@pytest.mark.parametrize(("text", "expected"), PIECEWISE, ids=[text for text, _ in PIECEWISE])
def test_lists_that_become_the_result_may_be_long(text: str, expected: list[Any]) -> None:
    """`map` and `filter` over one list give of 5,000 elements what they give of few, in linear time."""
    values = {"x": [{"n": n} for n in range(4_999)], "y": "!"}
    nested = text.replace("x.", "z.a.b.", 1)

    assert compile_expression(text, ["x", "y"]).evaluate(Activation(values)) == expected
    assert (
        compile_expression(nested, {"z.a": "dyn", "y": "string"}).evaluate(
            Activation({"z.a": {"b": values["x"]}, "y": "!"})
        )
        == expected
    )


def test_a_failure_in_a_later_piece_is_a_failure() -> None:
    """The 5,000th element is judged as strictly as the first."""
    expression = compile_expression("x.map(i, i.n)", ["x"])
    values: list[dict[str, int]] = [{"n": n} for n in range(4_999)]

    with pytest.raises(EvaluationError):
        expression.evaluate(Activation({"x": [*values, {}]}))
