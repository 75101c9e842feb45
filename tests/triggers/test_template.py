"""Templates: literals stay literal, whole expressions keep their type, mixed text is text."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.activation import Activation
from triggers.errors import EvaluationError, ExpressionError
from triggers.template import as_text, compile_function, compile_or_template, compile_template, jsonable


def render(value: Any, **values: Any) -> Any:
    return compile_template(value, tuple(values) or ("x",), path="params").render(Activation(values))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("plain {{ x }} ${env} }}", "plain {{ x }} ${env} }}", id="literal"),
        pytest.param("${{ x.n }}", 5, id="keeps its type"),
        pytest.param("${{x}}", {"n": 5, "s": "a", "l": [1]}, id="map"),
        pytest.param("n=${{ x.n }}", "n=5", id="mixed"),
        pytest.param("${{ x.n }}${{ x.s }}", "5a", id="two"),
        pytest.param(" ${{ x.n }}", " 5", id="a space makes it text"),
        pytest.param("${{ x.l }}!", "[1]!", id="list in text"),
        pytest.param("${{ true }}/x", "true/x", id="bool in text"),
        pytest.param("$${{ x.n }}", "${{ x.n }}", id="escaped"),
        pytest.param("a$${{b}}${{ x.s }}", "a${{b}}a", id="escaped and not"),
        pytest.param("${{ {'a': {'b': x.n}} }}", {"a": {"b": 5}}, id="braces inside"),
        pytest.param("${{ '}}' + x.s }}", "}}a", id="braces in a text"),
        pytest.param('${{ "it\'s }}" + x.s }}', "it's }}a", id="other quotes"),
        pytest.param("${{ r'\\d}}' + x.s }}", "\\d}}a", id="raw text"),
        pytest.param("${{ '''}}''' }}", "}}", id="triple quotes"),
        pytest.param(
            {"a": ["${{ x.n }}", 1, None, True], "b": {"c": "-${{ x.s }}"}},
            {"a": [5, 1, None, True], "b": {"c": "-a"}},
            id="nested",
        ),
    ],
)
def test_rendering(value: Any, expected: Any) -> None:
    """A template renders as the expressions page promises."""
    assert render(value, x={"n": 5, "s": "a", "l": [1]}) == expected


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        pytest.param({"a": ["${{ x. }}"]}, "params.a[0]", "Syntax error", id="place"),
        pytest.param("${{ x", "params", "not closed", id="open"),
        pytest.param("${{ 'x }}", "params", "text in ${{ … }} is not closed", id="open text"),
        pytest.param("${{ }}", "params", "empty", id="empty"),
        pytest.param({"${{ x }}": 1}, "params", "keys are literal", id="key"),
        pytest.param("${{ y }}", "params", "nothing is named y here", id="scope"),
    ],
)
def test_what_cannot_compile_names_its_place(value: Any, path: str, words: str) -> None:
    """A template that cannot be used is refused with the place inside it."""
    with pytest.raises(ExpressionError) as caught:
        compile_template(value, ("x",), path="params")

    assert caught.value.path == path
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("value", "x", "words"),
    [
        pytest.param({"a": "${{ x.b }}"}, {}, 'params.a: there is no field "b" in ${{ x.b }}', id="missing"),
        pytest.param("-${{ x }}", None, "null cannot stand in a text", id="null in text"),
        pytest.param("${{ x / 0.0 }}", 1.0, "cannot be written as JSON", id="infinity"),
        pytest.param("${{ {1: x} }}", 1, "keys that are not text", id="keys"),
        pytest.param("${{ type(x) }}", 1, "cannot be written as JSON", id="type"),
    ],
)
def test_what_cannot_render_says_so(value: Any, x: Any, words: str) -> None:
    """A rendering failure names the place and the expression; nothing is rendered half."""
    with pytest.raises(EvaluationError) as caught:
        render(value, x=x)

    assert words in str(caught.value)


def test_constant_templates_read_nothing() -> None:
    """A template without expressions is constant and gives its literal."""
    template = compile_template({"a": ["x", "$${{ y }}"]}, ("x",))

    assert (template.constant, template.names, template.render(Activation())) == (
        True,
        frozenset(),
        {"a": ["x", "${{ y }}"]},
    )


def test_moments_durations_and_bytes_become_json() -> None:
    """What JSON has no word for is written the documented way."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    value = {"at": moment, "for": timedelta(seconds=90), "bit": timedelta(milliseconds=1), "raw": b"\x01\x02"}

    assert jsonable(value) == {
        "at": "2026-01-02T03:04:05.000600Z",
        "bit": "0.001s",
        "for": "90s",
        "raw": base64.b64encode(b"\x01\x02").decode(),
    }


@pytest.mark.parametrize("text", ["x.a + 1", "${{ x.a + 1 }}", "  ${{x.a + 1}} "])
def test_an_expression_field_takes_a_whole_template(text: str) -> None:
    """A whole `${{ … }}` in an expression field means the same as its bare text."""
    assert compile_or_template(text, ("x",)).evaluate(Activation({"x": {"a": 1}})) == 2


def test_text_around_a_template_in_an_expression_field_is_refused() -> None:
    """Mixed text in an expression field is an error that says how to join."""
    with pytest.raises(ExpressionError) as caught:
        compile_or_template("${{ x }}/b", ("x",), path="run.key")

    assert "join texts with +" in caught.value.hint


def test_functions_of_plain_values() -> None:
    """A compiled function gives a JSON value of the given variables and fails as expressions do."""
    delivery = compile_function("headers['x-id'] + '/' + string(body.n)", ("body", "headers"), path="id")

    assert delivery({"body": {"n": 1}, "headers": {"x-id": "a"}}) == "a/1"
    with pytest.raises(EvaluationError, match="no field"):
        delivery({"body": {}, "headers": {"x-id": "a"}})


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "${{" not in text))
def test_any_text_can_be_written_literally(text: str) -> None:
    """With `${{` escaped, every text renders as itself, around an expression too."""
    assert render(text, x=1) == text
    assert render(f"{text}$${{{{", x=1) == f"{text}${{{{"
    assert render(f"{text} ${{{{ x }}}}", x=1) == f"{text} 1"


@given(st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from(["a", "${{ x }}", "-${{ x }}"]), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8))  # fmt: skip  # noqa: E501
def test_shape_is_kept(value: Any) -> None:
    """Rendering changes texts with expressions and nothing else."""

    def expected(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: expected(item) for key, item in part.items()}
        if isinstance(part, list):
            return [expected(item) for item in part]
        return {"${{ x }}": 7, "-${{ x }}": "-7"}.get(part, part) if isinstance(part, str) else part

    assert render(value, x=7) == expected(value)


@given(st.lists(st.integers(-5, 5), max_size=3) | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5))
def test_text_of_a_value_is_its_json(value: Any) -> None:
    """What is not text stands in a text as its JSON."""
    assert orjson.loads(as_text(value)) == value
