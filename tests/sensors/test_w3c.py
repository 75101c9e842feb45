"""W3C Trace Context, Level 2: what is continued, what is as if absent, and what is left out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.w3c import MAX_TRACESTATE, child_of, one_traceparent, parse_traceparent, parse_tracestate

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_SPAN = "b7ad6b7169203331"
_GOOD = f"00-{_TRACE}-{_SPAN}-01"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param(_GOOD, _GOOD, id="as it is"),
        pytest.param(f"  {_GOOD}\t", _GOOD, id="white space around it is not part of it"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-03", f"00-{_TRACE}-{_SPAN}-03", id="the random flag is kept"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-ff", f"00-{_TRACE}-{_SPAN}-03", id="unknown flags are cleared"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-fc", f"00-{_TRACE}-{_SPAN}-00", id="and with them nothing is left"),
        pytest.param(f"cc-{_TRACE}-{_SPAN}-01", _GOOD, id="a later version is read as this one"),
        pytest.param(f"cc-{_TRACE}-{_SPAN}-01-what-comes", _GOOD, id="whatever follows behind a dash"),
        pytest.param(f"cc-{_TRACE}-{_SPAN}-01.what", None, id="but only behind a dash"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-01-what", None, id="this version has nothing behind it"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-01-", None, id="not even a dash"),
        pytest.param(f"ff-{_TRACE}-{_SPAN}-01", None, id="version ff does not exist"),
        pytest.param(f"0x-{_TRACE}-{_SPAN}-01", None, id="a version that is none"),
        pytest.param(f"00-{'0' * 32}-{_SPAN}-01", None, id="a trace id of zeros"),
        pytest.param(f"00-{_TRACE}-{'0' * 16}-01", None, id="a span id of zeros"),
        pytest.param(_GOOD.upper(), None, id="upper case"),
        pytest.param(f"00-{_TRACE[:-1]}-{_SPAN}-01", None, id="too short"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-1", None, id="half a flag"),
        pytest.param(f"{_GOOD},{_GOOD}", None, id="two in one header"),
        pytest.param("", None, id="empty"),
        pytest.param(f"00-{_TRACE}-{_SPAN}-0１", None, id="digits of another alphabet"),
    ],
)
def test_traceparent(text: str, kept: str | None) -> None:
    """One valid header is kept, written anew as version 00; anything else is as if it had not come."""
    assert one_traceparent([text]) == kept
    assert one_traceparent([text, text]) is None
    assert one_traceparent([]) is None
    assert one_traceparent(None) is None


def test_children_keep_trace_and_flags() -> None:
    """A span below a foreign one has its trace id and the flags that we know."""
    parent = one_traceparent([f"01-{_TRACE}-{_SPAN}-ff-x"])
    assert parent is not None
    child = parse_traceparent(child_of(parent))
    assert child is not None
    assert (child.trace_id, child.flags) == (_TRACE, 3)
    assert child.span_id != _SPAN


_MANY = [f"k{n}=v" for n in range(33)]
_LONG = "long=" + "x" * 200


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        pytest.param(["a=1,b=2"], "a=1,b=2", id="order is kept"),
        pytest.param(["a=1", "b=2"], "a=1,b=2", id="several headers are one list"),
        pytest.param([" a=1 , ,b=2\t,"], "a=1,b=2", id="white space and empty members are left out"),
        pytest.param(["t61rcWkgMzE@x=1"], None, id="a key has no capitals"),
        pytest.param(["1tenant@sys=x;y"], "1tenant@sys=x;y", id="a tenant's key may begin with a digit"),
        pytest.param(["a=1,a=2"], None, id="a key that comes twice"),
        pytest.param(["a"], None, id="a member without a value"),
        pytest.param(["a="], None, id="an empty value"),
        pytest.param(["a=b=c"], None, id="a value with an equals sign"),
        pytest.param(["a=é"], None, id="a value beyond ASCII"),
        pytest.param([f"{'k' * 257}=1"], None, id="a key that is too long"),
        pytest.param([f"k={'v' * 257}"], None, id="a value that is too long"),
        pytest.param([",".join(_MANY)], None, id="more than 32 members"),
        pytest.param([",".join(_MANY[:32])], ",".join(_MANY[:32]), id="32 members"),
        pytest.param([f"a=1,{_LONG},b={'y' * 120},c={'z' * 200}"], f"a=1,{_LONG},b={'y' * 120}", id="long ones go"),
        pytest.param(
            [",".join(f"k{n}={'v' * 100}" for n in range(6))],
            ",".join(f"k{n}={'v' * 100}" for n in range(4)),
            id="then the last ones",
        ),
        pytest.param([""], None, id="nothing"),
        pytest.param([], None, id="no header"),
        pytest.param(None, None, id="no header at all"),
    ],
)
def test_tracestate(values: list[str] | None, kept: str | None) -> None:
    """What is valid is kept, within bounds, by whole members; what is not is left out whole."""
    assert parse_tracestate(values) == kept


@given(st.lists(st.text(max_size=80), max_size=4))
def test_whatever_comes_is_bounded_or_nothing(values: list[str]) -> None:
    """No header makes the readers raise, and what they keep can be sent on and read again."""
    one_traceparent(values)
    state = parse_tracestate(values)
    if state is not None:
        assert len(state) <= MAX_TRACESTATE
        assert parse_tracestate([state]) == state
