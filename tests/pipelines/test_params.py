from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ParameterError
from pipelines.params import PARAM_TYPES, check_params, coerce, to_python
from pipelines.pipeline import Param
from pipelines.run import MAX_PARAMS_BYTES


@pytest.mark.parametrize(
    ("type_name", "given_value", "kept"),
    [
        pytest.param("str", "x", "x", id="str"),
        pytest.param("int", "42", 42, id="int-from-text"),
        pytest.param("int", 3.0, 3, id="int-from-whole-double"),
        pytest.param("float", 2, 2.0, id="float"),
        pytest.param("bool", "True", True, id="bool-from-text"),
        pytest.param("date", date(2026, 1, 31), "2026-01-31", id="date"),
        pytest.param("datetime", "2026-01-31T07:00:00+01:00", "2026-01-31T06:00:00Z", id="datetime-in-utc"),
        pytest.param("datetime", datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z", id="datetime"),
        pytest.param("list", (1, "a"), [1, "a"], id="list"),
        pytest.param("map", {"a": [None]}, {"a": [None]}, id="map"),
        pytest.param("any", {"d": date(2026, 1, 1)}, {"d": "2026-01-01"}, id="any"),
    ],
)
def test_values_take_the_json_shape_of_their_type(type_name: str, given_value: Any, kept: Any) -> None:
    """Each type has one shape in which a run keeps it."""
    assert coerce("p", type_name, given_value) == kept


@pytest.mark.parametrize(
    ("type_name", "given_value"),
    [
        ("str", 1),
        ("int", True),
        ("int", 1.5),
        ("int", "1e3"),
        ("int", 2**63),
        ("int", "9" * 5000),
        ("float", float("nan")),
        ("float", 10**400),
        ("bool", 1),
        ("bool", "yes"),
        ("date", "31.01.2026"),
        ("date", datetime(2026, 1, 1, tzinfo=UTC)),
        ("datetime", "2026-01-31T06:00:00"),
        ("datetime", "0001-01-01T00:00:00+14:00"),
        ("list", "abc"),
        ("map", {1: 2}),
        ("any", {1, 2}),
        ("any", float("inf")),
        ("strr", "x"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(type_name: str, given_value: Any) -> None:
    """The error names the parameter and stays short, however large the value."""
    with pytest.raises(ParameterError, match="parameter 'p'") as caught:
        coerce("p", type_name, given_value)
    assert len(str(caught.value)) < 400


def test_unknown_and_missing_parameters_are_refused_and_defaults_filled_in() -> None:
    """Only declared names pass; required ones must be there; others get their default, None where there is none."""
    declared = {
        "path": Param(type="str", required=True),
        "limit": Param(type="int", default=5),
        "day": Param(type="date"),
    }

    assert check_params(declared, {"path": "x"}) == {"path": "x", "limit": 5, "day": None}
    with pytest.raises(ParameterError, match="unknown parameter 'pth': did you mean 'path'"):
        check_params(declared, {"pth": "x"})
    with pytest.raises(ParameterError, match=r"'path' .* is missing"):
        check_params(declared, {})
    assert check_params(None, {"anything": [1]}) == {"anything": [1]}


def test_parameters_are_bounded_and_clean() -> None:
    """More than 64 KiB, NUL and lone surrogates are refused; text that merely looks like an escape is not."""
    with pytest.raises(ParameterError, match="hand over a path"):
        check_params(None, {"x": "y" * MAX_PARAMS_BYTES})
    with pytest.raises(ParameterError, match="NUL"):
        check_params(None, {"x": {"y": ["a\0b"]}})
    with pytest.raises(ParameterError):
        check_params(None, {"x": "\ud800"})
    assert check_params(None, {"x": "\\u0000"}) == {"x": "\\u0000"}


def test_functions_get_dates_as_dates() -> None:
    """What JSON holds as text comes back as what the annotation says."""
    assert to_python("date", "2026-01-31") == date(2026, 1, 31)
    assert to_python("datetime", "2026-01-31T06:00:00Z") == datetime(2026, 1, 31, 6, tzinfo=UTC)
    assert to_python("int", 3) == 3
    assert to_python("date", None) is None


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.dates() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()) | st.integers(), inner, max_size=4)
    ),
)


@given(st.sampled_from(PARAM_TYPES), hostile)
def test_any_value_is_kept_as_json_or_refused(type_name: str, value: Any) -> None:
    """Whatever is given, the answer is JSON that reads back equal and stays itself, or ParameterError."""
    declared = {"p": Param(type=type_name, required=True)}
    try:
        kept = check_params(declared, {"p": value})
    except ParameterError:
        return

    assert orjson.loads(orjson.dumps(kept)) == kept
    assert check_params(declared, kept) == kept
