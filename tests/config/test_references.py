"""References in text, and where secrets lie in the types of options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.typewalk import models_at, secret_paths
from pipelines.references import (
    BadReference,
    Reference,
    finder,
    has_reference,
    replaced,
    resolved,
    whole_reference,
)
from tests.config.kinds import Nothing, TideOptions, Token


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${env:A}", "one"),
        ("x-${env:A}-${env:A}", "x-one-one"),
        ("${env:B:-two}", "two"),
        ("${env:EMPTY:-two}", "two"),
        ("${env:EMPTY}", ""),
        ("${env:B:-}", ""),
        ("${env:B:-a:-b}", "a:-b"),
        ("$${env:A}", "${env:A}"),
        ("${{ event.id }} ${A} $A {env:A}", "${{ event.id }} ${A} $A {env:A}"),
        ("${{ '${env:A}' }}", "${{ 'one' }}"),
    ],
)
def test_references_are_replaced_in_text(text: str, expected: str) -> None:
    """A reference anywhere in a text is replaced once; defaults fill in what is unset or empty; the rest stays."""
    assert replaced(text, finder({"A": "one", "EMPTY": ""}, Path("/"))) == expected


def test_what_a_reference_brings_is_not_looked_at_again() -> None:
    """A value that looks like a reference stays text; in a template its `${{` is escaped."""
    find = finder({"A": "${env:B} ${{ x }}", "B": "secret"}, Path("/"))

    assert replaced("${env:A}", find) == "${env:B} ${{ x }}"
    assert replaced("${env:A}", find, template=True) == "${env:B} $${{ x }}"
    assert resolved({"a": ["${env:B}", 5, None]}, find) == {"a": ["secret", 5, None]}


@pytest.mark.parametrize(
    "text", ["${env:}", "${env:A B}", "${env:1A}", "${file:}", "${env:A", "x ${file:/y", "${env:MISSING}"]
)
def test_references_that_lead_nowhere(text: str) -> None:
    """A reference that is malformed, not closed or not set is an error with a remedy."""
    with pytest.raises(BadReference) as raised:
        replaced(text, finder({}, Path("/")))

    assert raised.value.hint


def test_files(tmp_path: Path) -> None:
    """A file's text comes without its last line end; relative ones lie beside the configuration."""
    (tmp_path / "secret").write_text("s3cret\n")
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    find = finder({}, tmp_path)

    assert replaced("${file:secret}", find) == "s3cret"
    assert replaced(f"${{file:{tmp_path}/secret}}", find) == "s3cret"
    for name, reason in (
        ("missing", "cannot be read"),
        ("big", "64 KiB"),
        ("binary", "UTF-8"),
        (".", "no regular file"),
    ):
        with pytest.raises(BadReference, match=reason):
            replaced(f"${{file:{name}}}", find)


def test_whole_references() -> None:
    """`env:NAME` and `file:/path` stand alone in secret-typed fields; anything else is no reference."""
    assert whole_reference("env:NAME") == Reference("env", "NAME")
    assert whole_reference("file:/run/secrets/x") == Reference("file", "/run/secrets/x")
    assert whole_reference("hunter2") is None
    assert whole_reference("xenv:NAME") is None
    with pytest.raises(BadReference):
        whole_reference("env:not a name")


@given(st.text(alphabet="${}env:file-A /\\", max_size=40))
def test_any_text_is_replaced_or_refused(text: str) -> None:
    """Hostile text never causes anything but a BadReference, and text without references is left alone."""
    try:
        after = replaced(text, finder({"A": "x"}, Path("/nowhere")))
    except BadReference:
        return
    if not has_reference(text) and "$${" not in text:
        assert after == text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"verify": {"scheme": "token", "secret": "x"}}, [("verify", "secret")]),
        ({"verify": {"scheme": "token", "secret": ["x", "y"]}}, [("verify", "secret", 0), ("verify", "secret", 1)]),
        ({"verify": {"scheme": "none", "secret": "x"}}, []),
        ({"headers": {"a": "x", "b": "y"}}, [("headers", "a"), ("headers", "b")]),
        ({"verify": {"scheme": "token", "secret": 5}, "path": "x", "headers": ["x"]}, []),
        ({"verify": "x"}, []),
        (None, []),
    ],
)
def test_secrets_are_found_by_type(data: Any, expected: list[tuple[str | int, ...]]) -> None:
    """Secret-typed texts are found through models, tagged unions, lists and maps, and nothing else is."""
    assert list(secret_paths(TideOptions, data)) == expected


def test_models_are_found_by_place() -> None:
    """The models that rule a place are known, so that the nearest key can be named."""
    data: Mapping[str, Any] = {"verify": {"scheme": "token"}}

    assert models_at(TideOptions, data, ()) == [TideOptions]
    assert models_at(TideOptions, data, ("verify",)) == [Token]
    assert models_at(TideOptions, {"verify": {}}, ("verify",)) == [Token, Nothing]
    assert models_at(TideOptions, data, ("path",)) == []
