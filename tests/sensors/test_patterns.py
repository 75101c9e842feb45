"""Path patterns: captures, depth, and linear cost."""

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "captures"),
    [
        ("{customer}-{day}.csv", "acme-2026-01-31.csv", {"customer": "acme", "day": "2026-01-31"}),
        ("{customer}-{day}.csv", "sub/acme-1.csv", None),
        ("{name}.csv", ".csv", None),
        ("*.csv", ".csv", {}),
        ("*.csv", "a/b.csv", None),
        ("**/*.csv", "b.csv", {}),
        ("**/*.csv", "a/b/c.csv", {}),
        ("orders/dt={day}/**/{name}.parquet", "orders/dt=1/x/y/part-0.parquet", {"day": "1", "name": "part-0"}),
        ("orders/dt={day}/**/{name}.parquet", "orders/dt=1/part-0.parquet", {"day": "1", "name": "part-0"}),
        ("orders/dt={day}/**/{name}.parquet", "orders/part-0.parquet", None),
        ("in/**", "in/a/b", {}),
        ("in/**", "in", None),
        ("**/a/{x}/**/b", "z/a/1/q/a/2/b", {"x": "1"}),
        ("a?[1].txt", "a?[1].txt", {}),
        ("a?[1].txt", "ab1.txt", None),
        ("plain", "plain", {}),
    ],
)
def test_captures(pattern: str, path: str, captures: dict[str, str] | None) -> None:
    """A pattern captures parts of segments, `*` stays within one, `**` spans any number, and all else is literal."""
    assert compile_pattern(pattern).match(path) == captures


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("", "relative"),
        ("/abs", "relative"),
        ("a//b", "relative"),
        ("a/", "relative"),
        ("{a}{b}", "between"),
        ("{a}*", "between"),
        ("a**", "whole segment"),
        ("{a}/{a}", "twice"),
        ("{1a}", "no name"),
        ("{}", "no name"),
        ("a{b", "lone"),
        ("a}b", "lone"),
    ],
)
def test_bad_patterns_say_what_would_be_right(pattern: str, hint: str) -> None:
    """A pattern that makes no sense is refused with a sentence."""
    with pytest.raises(ValueError, match=hint):
        compile_pattern(pattern)


def test_a_hostile_name_costs_linear_time() -> None:
    """A name made to make a regular expression backtrack is matched in no time."""
    pattern = compile_pattern("{a}-{b}-{c}-{d}-{e}-{f}.csv")
    started = time.perf_counter()

    assert pattern.match("-" * 100_000 + "x") is None
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("pattern", "folder", "holds"),
    [
        ("*.csv", "a", False),
        ("a/{x}/*.csv", "a", True),
        ("a/{x}/*.csv", "a/b", True),
        ("a/{x}/*.csv", "a/b/c", False),
        ("a/{x}/*.csv", "b", False),
        ("a/**/x", "a/b/c/d", True),
        ("a/**/x", "b", False),
        ("**/x", "anything/at/all", True),
    ],
)
def test_folders_that_cannot_hold_a_match_are_known(pattern: str, folder: str, holds: bool) -> None:
    """A scan may leave out a folder exactly when nothing below it could match."""
    assert compile_pattern(pattern).may_hold(folder) is holds


def test_the_literal_prefix_is_what_every_match_starts_with() -> None:
    """The prefix ends where the first capture or star begins."""
    assert compile_pattern("orders/dt={day}/x").prefix == "orders/dt="
    assert compile_pattern("a/b").prefix == "a/b"
    assert compile_pattern("**/b").prefix == ""


_SEGMENT = st.text("ab-.", min_size=1, max_size=4)


@given(
    st.lists(st.sampled_from(["a", "*", "**", "*a", "a*b", "-*-"]), min_size=1, max_size=4),
    st.lists(_SEGMENT, min_size=1, max_size=5),
)
def test_matching_agrees_with_a_regular_expression(pattern: list[str], path: list[str]) -> None:
    """Without captures the answer is that of the backtracking equivalent, and a match's folders may all hold it."""
    text, name = "/".join(pattern), "/".join(path)
    expression = ""
    for index, part in enumerate(pattern):
        last = index == len(pattern) - 1
        if part == "**":
            expression += "(?:[^/]+/)*[^/]+" if last else "(?:[^/]+/)*"
        else:
            expression += re.escape(part).replace(r"\*", "[^/]*") + ("" if last else "/")
    compiled = compile_pattern(text)

    assert (compiled.match(name) is not None) == (re.fullmatch(expression, name) is not None)
    if compiled.match(name) is not None:
        assert name.startswith(compiled.prefix)
        assert all(compiled.may_hold("/".join(path[:depth])) for depth in range(1, len(path)))


@given(st.text("ab.", min_size=1, max_size=6), st.text("ab.", max_size=6))
def test_a_single_star_is_that_of_the_shell(name: str, end: str) -> None:
    """`*` followed by text matches as in a shell."""
    assert (compile_pattern(f"*{end}").match(name) is not None) == fnmatch.fnmatchcase(name, f"*{end}")
