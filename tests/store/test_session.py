"""The small pure parts: statement texts, sizes, pages, prefixes, the graph."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.store import pages
from tidegate.store.graph import Edge, walk
from tidegate.store.session import insert, postgres_text, sqlite_text
from tidegate.store.sql_reader import after_prefix
from tidegate.store.sqlite_session import _SIZES, _size

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.integers(1, 5_000), st.integers(1, 40))
def test_sizes_never_waste_more_than_half(left: int, width: int) -> None:
    """A statement takes as many rows as are left, or is more than half full of them, and fits the variables."""
    size = _size(left, width)

    assert size in _SIZES
    assert size * width <= 32_766
    assert size <= left or size < 2 * left


@given(TEXT, TEXT)
def test_what_starts_with_a_prefix_lies_between(prefix: str, rest: str) -> None:
    """Every text with the prefix is below the bound, in the order of UTF-8 bytes, and the bound is not too high."""
    bound = after_prefix(prefix)
    text = (prefix + rest).encode()

    assert prefix.encode() <= text
    if bound is not None:
        assert text < bound.encode()
        assert not bound.startswith(prefix) or not prefix


def test_the_highest_prefix_has_no_bound() -> None:
    """There is no text above the last character."""
    assert after_prefix("\U0010ffff") is None
    assert after_prefix("") is None
    assert after_prefix("a\U0010ffff") == "b"
    assert after_prefix("\ud7ff") == "\ue000"


@given(st.lists(st.one_of(TEXT, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=3))
def test_cursors_come_back(place: list[Any]) -> None:
    """A place survives the way through its opaque text."""
    assert pages.decode(pages.encode(place), *[type(part) for part in place]) == place


@given(st.text(max_size=40))
def test_foreign_cursors_never_crash(text: str) -> None:
    """Any text at all is either a cursor of the shape asked for, or refused with a sentence."""
    with contextlib.suppress(pages.BadCursor):
        place = pages.decode(text, int, str)

        assert place is not None
        assert [type(part) for part in place] == [int, str]


def test_one_text_serves_both_databases() -> None:
    """Lists, pairs, folded rows and locks are rewritten; percent signs survive."""
    sql = "SELECT JSON_ROWS(a, b) FROM PAIRS(?) AS k WHERE x = ANY(?) AND y LIKE '%' FOR UPDATE OF t SKIP LOCKED"

    assert sqlite_text(sql) == (
        "SELECT json_group_array(json_array(a, b)) FROM (SELECT json_extract(value, '$[0]') AS a,"
        " json_extract(value, '$[1]') AS b FROM json_each(?)) AS k"
        " WHERE x IN (SELECT value FROM json_each(?)) AND y LIKE '%'"
    )
    assert postgres_text(sql) == (
        "SELECT (json_agg(json_build_array(a, b)))::text FROM (SELECT e ->> 0 AS a, e ->> 1 AS b"
        " FROM jsonb_array_elements(%s::jsonb) AS e) AS k"
        " WHERE x = ANY(%s::text[]) AND y LIKE '%%' FOR UPDATE OF t SKIP LOCKED"
    )
    assert insert("t", "a:t b:i").body == "INSERT INTO t (a, b) SELECT a, b FROM v WHERE a IS NOT NULL "


class _Chain:
    """Event 0 -> event 1 -> event 2 …, and each one back to the one before the last."""

    def _edges(self, uids: Any) -> Any:
        for uid in uids:
            yield Edge(("event", uid), ("event", str(int(uid) + 1)), "next")
            yield Edge(("event", uid), ("event", str(max(0, int(uid) - 2))), "back")

    def down(self, kind: str, uids: Any, limit: int) -> Any:
        """Follow the chain."""
        return self._edges(uids)

    def up(self, kind: str, uids: Any, limit: int) -> Any:
        """Have no causes."""
        return ()

    def describe(self, kind: str, uids: Any) -> Any:
        """Know the even ones."""
        return {uid: {"n": int(uid)} for uid in uids if int(uid) % 2 == 0}

    def stubs(self, uids: Any) -> Any:
        """Know what is left of one of them."""
        return {uid: {"label": "gone", "at": 1} for uid in uids if uid == "1"}


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_circle_ends_at_the_limit(limit: int) -> None:
    """A graph with circles and without end is walked once, up to the limit; nodes are described or stubs."""
    graph = walk(_Chain(), [("event", "0")], up=True, down=True, limit=limit)
    nodes = {node["uid"]: node for node in graph["nodes"]}

    assert list(nodes) == [str(n) for n in range(limit)]
    assert graph["truncated"]
    assert all(edge["from"] in nodes and edge["to"] in nodes for edge in graph["edges"])
    assert nodes["0"] == {"kind": "event", "uid": "0", "n": 0}
    if limit > 1:
        assert nodes["1"] == {"kind": "stub", "uid": "1", "was": "event", "label": "gone", "at": 1}
