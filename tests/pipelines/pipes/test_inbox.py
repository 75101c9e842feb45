"""The orchestrator's side of Pipes as pure functions: any cutting of the lines, any bytes, any bounds."""

import base64
import json
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pipes import MAX_LINE, PipesInbox, PipesOptions, context_of, encode
from pipelines.reported import MAX_OUTPUT
from tests.support.engine_contexts import TRACEPARENT, make_context

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
METHODS = st.sampled_from(
    [
        "opened",
        "closed",
        "log",
        "log_external_stream",
        "report_asset_materialization",
        "report_asset_check",
        "report_custom_message",
        "unheard_of",
        None,
        7,
    ]
)


def message(method: Any, params: Any = None, version: Any = "0.1") -> bytes:
    return json.dumps({"__dagster_pipes_version": version, "method": method, "params": params}).encode() + b"\n"


def inbox(lines: list[tuple[str, str]] | None = None) -> PipesInbox:
    kept = [] if lines is None else lines
    return PipesInbox({"a": "a"}, lambda stream, text: kept.append((stream, text)))


def state(box: PipesInbox) -> Any:
    return (box.opened, box.closed, box.exception, box.reported.output(), box.reported.failed_checks())


@given(st.lists(st.tuples(METHODS, JSON), max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_the_cutting_of_the_lines_is_no_matter(messages: list[tuple[Any, Any]], sizes: list[int]) -> None:
    """However the bytes arrive, and whatever they say, the inbox reads the same and raises nothing."""
    data = b"".join(message(method, params) for method, params in messages)
    whole, pieces = inbox(), inbox()
    whole.feed(data)
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    whole.end()
    pieces.end()
    assert state(whole) == state(pieces)


@given(st.lists(st.tuples(st.sampled_from(["report_asset_materialization", "report_asset_check"]), JSON, JSON)))
def test_reports_of_any_shape_become_rows_that_a_store_takes(reports: list[tuple[str, Any, Any]]) -> None:
    """Whatever metadata and names a program gives, dataset and check rows hold text that every store takes."""
    box = inbox()
    for method, metadata, value in reports:
        params = {"asset_key": "a", "metadata": metadata, "data_version": value, "check_name": value, "passed": True}
        box.feed(message(method, params))
    name = lambda dataset: ("n", dataset)  # noqa: E731 - a stand-in
    for write in box.reported.datasets("t", 1, name):
        assert write.version is None or "\0" not in write.version
        orjson.dumps([write.version, write.schema])
    for check in box.reported.checks("t", 1, name):
        assert "\0" not in check.check + check.message
        orjson.dumps([check.check, check.message])
    orjson.dumps(box.reported.output())


def test_nothing_is_left_out_silently() -> None:
    """No message, an unknown method, another version, an asset out of scope: each is a sentence in the log."""
    lines: list[tuple[str, str]] = []
    box = inbox(lines)
    box.feed(b"plain words\n" + message("dance") + message("opened", {}, "9.9"))
    box.feed(message("report_asset_materialization", {"asset_key": "b"}))
    box.feed(message("report_asset_check", {"asset_key": "a", "passed": "yes"}))
    said = [text for stream, text in lines if stream == "engine"]
    for words in ("plain words", "'dance'", "'9.9'", "'b', which is not in scope; the task's are: a", "'yes'"):
        assert any(words in text for text in said), words


def test_floods_are_bounded_and_told() -> None:
    """A line without end is skipped, and messages past what a task hands on are counted and said."""
    lines: list[tuple[str, str]] = []
    box = inbox(lines)
    for _ in range(3):
        box.feed(b"x" * MAX_LINE)
    box.feed(b"\n" + message("opened"))
    assert box.opened
    assert len([text for _, text in lines if "longer than" in text]) == 1
    for _ in range(3):
        box.feed(message("report_custom_message", {"payload": "y" * (MAX_OUTPUT // 2)}))
    output = box.reported.output()
    assert output is not None
    assert (len(output["messages"]), output["left_out"]) == (1, 2)


def test_numbers_and_text_that_json_has_not() -> None:
    """NaN becomes null and a lone surrogate is replaced: Python programs write both."""
    box = inbox()
    box.feed(
        b'{"__dagster_pipes_version": "0.1", "method": "report_custom_message", "params": '
        b'{"payload": [NaN, "\\ud800"]}}\n'
    )
    assert box.reported.output() == {"materializations": {}, "messages": [[None, "\ufffd"]]}


@pytest.mark.parametrize(
    "line", ['{"a": 1}', "plain", '{"__dagster_pipes_version": broken', '["__dagster_pipes_version"]']
)
def test_prints_between_messages_stay_prints(line: str) -> None:
    """On a stream that carries both, only messages are taken."""
    assert inbox().take(line) is False
    assert inbox().take(message("opened").decode()) is True


def test_the_context_is_the_protocols() -> None:
    """Run, partition, retry number and extras stand where the clients look for them; given extras win."""
    context = make_context("command", {}, params={"day": 1})
    data = context_of(PipesOptions(extras={"params": "mine", "own": [1]}), context)
    assert data["asset_keys"] == ["work"]
    assert data["run_id"] == "run_01"
    assert data["partition_key"] == "2026-01-01"
    assert data["partition_key_range"] == {"start": "2026-01-01", "end": "2026-01-01"}
    assert data["extras"]["traceparent"] == TRACEPARENT
    assert (data["extras"]["params"], data["extras"]["own"]) == ("mine", [1])
    assert data["extras"]["tidegate"]["task"] == "work"
    assert json.loads(zlib.decompress(base64.b64decode(encode(data)))) == data
