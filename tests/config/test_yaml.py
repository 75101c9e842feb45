"""YAML 1.2 with positions, from friendly and hostile texts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.problems import Report
from config.triggers_section import canonical
from config.yaml import MAX_BYTES, MAX_DEPTH, Table, read_yaml


def _read(text: str | bytes) -> tuple[Table | None, list[str]]:
    report = Report()
    data = text.encode() if isinstance(text, str) else text
    table = read_yaml(data, "f.yaml", report)
    return table, [str(problem) for problem in report.sorted(["f.yaml"])]


def _data(text: str) -> Any:
    table, problems = _read(text)
    assert problems == []
    assert table is not None
    return {key: getattr(entry.node, "value", canonical(entry.node, 0)) for key, entry in table.entries.items()}


@pytest.mark.parametrize(
    "word", ["on", "off", "NO", "yes", "y", "10:30", "2026-01-31", "1_000", "0b1", "1:2:3", "=", ".5."]
)
def test_words_that_older_yaml_changed_are_text(word: str) -> None:
    """`on`, `NO`, `10:30` and their like stay text."""
    assert _data(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None)],
        *[("12", 12), ("-3", -3), ("017", 17), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5), ("1e3", 1000.0)],
        *[("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("|\n  a\n  b\n", "a\nb\n"), (".inf", float("inf"))],
    ],
)
def test_the_core_schema(text: str, value: Any) -> None:
    """Plain scalars are read by the core schema of YAML 1.2; quoted ones are text."""
    assert _data(f"a: {text}") == {"a": value}


def test_keys_are_text_as_written() -> None:
    """Keys never become numbers or truths."""
    assert list(_data("404: a\non: b\ntrue: c\n1.0: d")) == ["404", "on", "true", "1.0"]


def test_positions_of_keys_and_values() -> None:
    """Every key and value knows its line and column, counted from 1."""
    table, _ = _read("a:\n  b: [1,\n    x]\n")

    assert table is not None
    inner = table.entries["a"].node
    assert isinstance(inner, Table)
    entry = inner.entries["b"]
    assert (entry.mark.line, entry.mark.column) == (2, 3)
    assert [(item.mark.line, item.mark.column) for item in entry.node.items] == [(2, 7), (3, 5)]  # type: ignore[union-attr]


def test_merge_keys() -> None:
    """`<<` brings what is not there: own keys win, then the earlier map of a list."""
    assert _data("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [{x: 9}, *a]}")["b"] == {"y": "2", "x": "3"}
    assert _data("a: &a {x: 1, y: 2}\nc: {<<: [{x: 9}, *a]}")["c"] == {"x": "9", "y": "2"}


def test_doubled_keys_are_named_with_both_places() -> None:
    """A doubled key is an error that shows where the first one stands, at any depth; others are still found."""
    _, problems = _read("a: 1\nb: {c: 1, c: 2}\na: 3")

    assert problems == [
        "f.yaml:2:11 b.c: the key stands here for the second time (first: line 2, column 5), keep one of them",
        "f.yaml:3:1 a: the key stands here for the second time (first: line 1, column 1), keep one of them",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: *nope", "f.yaml:1:4: `*nope` has no anchor before it"),
        ("a: &x [*x]", "f.yaml:1:8: `*x` contains itself"),
        ("a: !!python/object:os.system x", "f.yaml:1:4: the tag `!!python/object:os.system` is not available"),
        ("a: !secret x", "f.yaml:1:4: the tag `!secret` is not available"),
        ("? [a]\n: b", "f.yaml:1:3: a key is a list"),
        ("%YAML 1.1\n---\na: on", "f.yaml:2:1: only YAML 1.2 is read"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document"),
        ("- a", "f.yaml:1:1: a configuration is a map"),
        ("a: 1\n<<: 5", "f.yaml:2:1: `<<` merges maps only"),
        ("a: x\x01y", "f.yaml:1:5: a control character"),
        ("a: @x", "f.yaml:1:4: a plain text cannot start with `@`"),
        ("a: 'x\nb: 1", "f.yaml:2:5: a quoted text is not closed"),
        ("a: b: c", "f.yaml:1:5: a `:` where no key can stand"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    """Each refusal names its place and the reason in plain words."""
    _, problems = _read(text)

    assert len(problems) == 1
    assert problems[0].startswith(expected)


def test_bytes_that_are_no_text() -> None:
    """A file that is not UTF-8 is refused at the byte at fault; a byte order mark is fine."""
    assert _read(b"a: 1\nbc: \xff")[1][0].startswith("f.yaml:2:5: not UTF-8")
    assert _read(b"\xef\xbb\xbfa: 1")[1] == []


def test_bombs_are_refused_quickly() -> None:
    """Aliases, depth and size are bounded before anything is expanded."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(20)
    )

    assert "aliases expanded" in _read(bomb)[1][0]
    assert "more than 5000 aliases" in _read("a: &a x\nb: [" + "*a, " * 6000 + "]")[1][0]
    assert f"deeper than {MAX_DEPTH}" in _read("a: " + "[" * 50_000)[1][0]
    assert "deeper" in _read("a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30)[1][0]
    assert "4 MiB" in _read(b"#" * (MAX_BYTES + 1))[1][0]


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"%@`,? \n\t#<", max_size=40)))
def test_any_text_is_read_or_reported(text: str) -> None:
    """Whatever the text: a map, or at least one problem with a place in the file."""
    report = Report()
    table = read_yaml(text.encode("utf-8", "surrogatepass"), "f.yaml", report)

    problems = report.sorted([])
    assert table is not None or problems
    lines = max(text.count(char) for char in "\n\r\x85\u2028\u2029") + text.count("\r") + text.count("\n") + 2
    assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in problems)
