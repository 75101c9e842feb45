"""Ages, durations, sizes, moments, and the lineage as a tree."""

import re
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.options import moment, parameters
from tidegate.cli.out import clean
from tidegate.lineage_tree import Branch, grow
from tidegate.wording import ago, lasting, parse_moment, sized

NOW = 1_767_225_600_000_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-01T00:00:00Z", "now"),
        ("2025-12-31T23:59:57Z", "3s ago"),
        ("2025-12-31T23:00:00Z", "1h ago"),
        ("2025-12-30T00:00:00+01:00", "2d ago"),
        ("2026-01-01T00:02:30Z", "in 2m"),
        ("nonsense", "–"),
        (None, "–"),
    ],
)
def test_ages(text: str | None, said: str) -> None:
    """Ages are said in their largest unit, past and future."""
    assert ago(text, NOW) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00084, "840µs"), (0.012, "12ms"), (1.523, "1.52s"), (42.06, "42.1s"), (185, "3m 05s"),
        (7800, "2h 10m"), (356_400, "4d 3h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    """Durations have about three figures."""
    assert lasting(seconds) == said


@given(st.floats(0, 1e9))
def test_durations_are_short(seconds: float) -> None:
    """No duration takes more than ten characters."""
    assert 2 <= len(lasting(seconds)) <= 10


@given(st.integers(0, 2**60))
def test_sizes_are_short(n: int) -> None:
    """No size breaks; bytes below a KiB are exact."""
    assert sized(n).endswith("B")
    assert n >= 1024 or sized(n) == f"{n} B"


@given(st.datetimes(timezones=st.timezones()))
def test_moments_are_read_exactly(at: Any) -> None:
    """RFC 3339 text is read to the microsecond."""
    found = parse_moment(at.isoformat())

    assert found is not None
    assert abs(found - at.timestamp() * 1e6) < 200


@given(st.text())
def test_terminal_text_is_printable(text: str) -> None:
    """Nothing that moves the cursor, changes colours or rings a bell is left."""
    assert all(char.isprintable() for char in clean(text))
    assert all(char.isprintable() or char == "\n" for char in clean(text, lines=True))


@pytest.mark.parametrize("text", ["2026-01-31T06:00Z", "2026-01-31T07:00+01:00", "2026-01-31 06:00"])
def test_moments_of_options(text: str) -> None:
    """Moments of any offset become UTC; one without an offset is UTC."""
    assert moment(text, "--since") == "2026-01-31T06:00:00Z"


@pytest.mark.parametrize("text", ["7d", "-7d", "90m", "1w"])
def test_ages_of_options(text: str) -> None:
    """An age is that long ago."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", moment(text, "--since") or "")


@pytest.mark.parametrize("text", ["", "soon", "7", "999999w", "2026-13-01"])
def test_what_is_no_moment(text: str) -> None:
    """Anything else is a usage error."""
    with pytest.raises(typer.Exit):
        moment(text, "--since")


def test_no_moment_stays_none() -> None:
    """An option that is not given asks for nothing."""
    assert moment(None, "--since") is None
    assert parameters([]) == {}


def _node(uid: str, kind: str) -> dict[str, Any]:
    return {"uid": uid, "kind": kind, "label": uid, "details": {}}


def _edge(source: str, target: str, kind: str = "x") -> dict[str, Any]:
    return {"from": source, "to": target, "kind": kind}


def _shape(branches: list[Branch]) -> list[Any]:
    return [(branch.node["uid"] + ("…" if branch.again else ""), _shape(branch.children)) for branch in branches]


def test_the_tree_says_everything_once() -> None:
    """Trigger events and short cuts are passed over; a run with two causes stands in full below the first only."""
    kinds = {"e1": "event", "e2": "event", "d": "decision", "t": "trigger_event", "r": "run", "out": "dataset"}
    nodes = [_node(uid, kind) for uid, kind in kinds.items()]
    edges = [_edge("e1", "d"), _edge("d", "t"), _edge("t", "r"), _edge("e1", "r"), _edge("e2", "r"), _edge("r", "out")]

    shape = _shape(grow("r", nodes, edges))

    assert shape == [("e1", [("d", [("r", [("out", [])])])]), ("e2", [("r…", [])])]


def test_a_circle_ends() -> None:
    """A run that reads what it wrote is shown once, not for ever."""
    nodes, edges = [_node("r", "run"), _node("d", "dataset")], [_edge("r", "d"), _edge("d", "r")]

    assert _shape(grow("r", nodes, edges)) == [("r", [("d", [("r…", [])])])]


_UIDS = st.sampled_from("abcdefgh")


@given(
    st.dictionaries(_UIDS, st.sampled_from(["event", "decision", "trigger_event", "run", "dataset"]), min_size=1),
    st.lists(st.tuples(_UIDS, _UIDS), max_size=30),
)
def test_every_node_but_trigger_events_is_in_the_tree(kinds: dict[str, str], pairs: list[tuple[str, str]]) -> None:
    """Whatever the graph, each node that people look for stands in full exactly once."""
    nodes = [_node(uid, kind) for uid, kind in kinds.items()]

    def walk(branches: list[Branch]) -> list[str]:
        return [uid for b in branches for uid in ([] if b.again else [b.node["uid"]]) + walk(b.children)]

    found = walk(grow("a", nodes, [_edge(*pair) for pair in pairs]))

    wanted = [uid for uid, kind in kinds.items() if kind != "trigger_event"]
    assert sorted(uid for uid in found if kinds[uid] != "trigger_event") == sorted(wanted)
