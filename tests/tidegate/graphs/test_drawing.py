"""Drawings of graphs: what a terminal, a merge request and a browser get."""

import re
import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.graphs.mermaid import mermaid
from tidegate.graphs.nodes import GraphNode, ordered, pipeline_nodes, run_nodes
from tidegate.graphs.svg import svg
from tidegate.graphs.text import draw

SIX = [
    GraphNode("crm", (), "succeeded"),
    GraphNode("erp", (), "failed", ("attempt 3",)),
    GraphNode("fx", (), "running"),
    GraphNode("stage", ("crm", "erp", "fx"), "upstream_failed"),
    GraphNode("audit", ("crm",)),
    GraphNode("publish", ("stage", "audit")),
]


def test_a_terminal_shows_who_waits_for_whom() -> None:
    """A task stands under the need that it is the last to ask for; rails carry what is still needed."""
    assert draw(SIX) == [
        "● crm",
        "│ ✗ erp  attempt 3",
        "│ │ ◐ fx",
        "├─◌─╯ stage",
        "○ │ audit",
        "○─╯ publish",
    ]


def test_unrelated_tasks_do_not_stand_under_one_another() -> None:
    """A task without needs never looks as if it followed the line above it."""
    assert draw([GraphNode("a"), GraphNode("b"), GraphNode("c")]) == ["○ a", "  ○ b", "○ c"]


def test_wide_graphs_become_a_list() -> None:
    """Where more runs in parallel than fits, names stand for lines."""
    many = [GraphNode(f"source-{n}") for n in range(40)]
    lines = draw([*many, GraphNode("stage", tuple(node.name for node in many))])

    assert lines[0] == "○ source-0"
    assert lines[-1].startswith("○ stage  needs source-0, source-1")
    assert max(map(len, lines)) <= 80


@st.composite
def graphs(draw_from: st.DrawFn) -> list[GraphNode]:
    names = draw_from(st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=14, unique=True))
    nodes = []
    for place, name in enumerate(names):
        needs = draw_from(st.lists(st.sampled_from(names[:place]), unique=True, max_size=4)) if place else []
        notes = draw_from(st.lists(st.text(max_size=60), max_size=2))
        nodes.append(GraphNode(name, tuple(needs), draw_from(st.sampled_from(["", "failed", "odd"])), tuple(notes)))
    return ordered(draw_from(st.permutations(nodes)))


@settings(max_examples=80, deadline=None)
@given(graphs(), st.integers(40, 120))
def test_every_graph_can_be_drawn_in_every_way(nodes: list[GraphNode], width: int) -> None:
    """One line per task within the width; well-formed XML with every box and line; Mermaid whose quotes are closed."""
    lines = draw(nodes, width)
    assert len(lines) == len(nodes)
    assert all(len(line) <= width and "\n" not in line for line in lines)

    picture = ET.fromstring(svg(nodes))
    space = "{http://www.w3.org/2000/svg}"
    assert len(list(picture.iter(f"{space}rect"))) == len(nodes)
    edges = sum(len(node.needs) for node in nodes)
    assert len([path for path in picture.iter(f"{space}path") if path.get("marker-end")]) == edges

    text = mermaid(nodes)
    assert len(re.findall(r"^ {4}t\d+\[\"[^\"]*\"\]$", text, re.MULTILINE)) == len(nodes)
    assert text.count(" --> ") == edges


def test_boxes_do_not_overlap_and_needs_stand_above() -> None:
    """Layers go downwards; long lines go round the boxes between."""
    picture = ET.fromstring(svg(SIX))
    space = "{http://www.w3.org/2000/svg}"
    boxes = [tuple(int(rect.get(key) or 0) for key in ("x", "y", "width")) for rect in picture.iter(f"{space}rect")]
    names = [title.text.split(":")[0] for title in picture.iter(f"{space}title") if title.text]
    place = dict(zip(names, boxes, strict=True))

    assert place["crm"][1] < place["stage"][1] < place["publish"][1]
    for one in boxes:
        for other in boxes:
            assert one == other or one[1] != other[1] or abs(one[0] - other[0]) >= one[2]


def test_hostile_names_stay_text() -> None:
    """Neither markup nor diagram syntax in a name has an effect."""
    nodes = [GraphNode('<script>"]; click t0 "javascript:x"')]

    assert "<script" not in svg(nodes)
    assert mermaid(nodes).count('"') == 2


def test_nodes_tell_what_is_special_about_a_task() -> None:
    """Fan-out, rules, conditions and pools stand beside a pipeline's task, progress beside a run's."""
    task = {
        "name": "fetch",
        "engine": "python",
        "needs": ["list"],
        "partitions": "tasks.list.output",
        "per": None,
        "upstream": "2_of",
        "on_failure": "continue",
        "when": "params.full",
        "pools": ["db"],
    }
    (node,) = pipeline_nodes([task])
    assert node.notes == ("python", "× tasks.list.output", "2_of", "may fail", "when params.full", "pool db")
    assert node.needs == ()

    slices = {"succeeded": 7, "failed": 1, "ready": 2}
    (node,) = run_nodes([{"task": "fetch", "needs": [], "state": "running", "slices": slices, "attempt": 1}])
    assert node.notes == ("running", "7 of 10 partitions, 1 failed")
