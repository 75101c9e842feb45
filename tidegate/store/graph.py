"""The lineage graph, walked breadth first over whatever can name neighbours.

An edge points the way the cause flowed: event -> decision -> trigger_event -> run -> task, dataset, own event; and
dataset -> run for what a run read. `up` walks against the arrows, `down` along them. A node whose row was pruned is a
`stub`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.store.reader import Row

Node = tuple[str, str]  # (kind, uid)


@dataclass(frozen=True, slots=True)
class Edge:
    """One arrow. `rows`: of an arrow `wrote`, how many rows this run wrote, whatever others wrote since."""

    source: Node
    target: Node
    kind: str
    rows: int | None = None


class Neighbours(Protocol):
    """Names the neighbours of nodes of one kind, and describes nodes."""

    def down(self, kind: str, uids: Sequence[str], limit: int) -> Iterable[Edge]:
        """Return the arrows that start at these nodes."""
        ...

    def up(self, kind: str, uids: Sequence[str], limit: int) -> Iterable[Edge]:
        """Return the arrows that end at these nodes."""
        ...

    def describe(self, kind: str, uids: Sequence[str]) -> Mapping[str, Row]:
        """Return what is known of these nodes; pruned ones are missing."""
        ...

    def stubs(self, uids: Sequence[str]) -> Mapping[str, Row]:
        """Return what is left of pruned nodes."""
        ...


# What the arrows of a pruned run connect: (kind of source, kind of target).
STUB_EDGES: Mapping[str, tuple[str, str]] = {
    "caused": ("event", "run"),
    "wrote": ("run", "dataset"),
    "read": ("dataset", "run"),
    "resumed": ("run", "run"),
    "replayed": ("run", "run"),
}


def walk(neighbours: Neighbours, start: Sequence[Node], *, up: bool, down: bool, limit: int) -> Row:
    """Return {"nodes", "edges", "truncated"} around the start nodes, at most `limit` nodes."""
    nodes = dict.fromkeys(start[:limit])
    edges: dict[tuple[Node, Node], Edge] = {}
    truncated = False
    for wanted, upwards in ((up, True), (down, False)):
        frontier = list(start[:limit]) if wanted else []
        seen = set(frontier)
        while frontier:
            found: list[Node] = []
            for kind, uids in _by_kind(frontier).items():
                ask = neighbours.up if upwards else neighbours.down
                for edge in ask(kind, uids, limit):
                    other = edge.source if upwards else edge.target
                    if other not in nodes and len(nodes) >= limit:
                        truncated = True
                        continue
                    nodes[other] = None
                    edges.setdefault((edge.source, edge.target), edge)
                    if other not in seen:
                        seen.add(other)
                        found.append(other)
            frontier = found
    return {
        "nodes": _described(neighbours, list(nodes)),
        "edges": [
            {"from": edge.source[1], "to": edge.target[1], "kind": edge.kind, "rows": edge.rows}
            for edge in edges.values()
        ],
        "truncated": truncated,
    }


def _by_kind(nodes: Iterable[Node]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for kind, uid in nodes:
        groups.setdefault(kind, []).append(uid)
    return groups


def _described(neighbours: Neighbours, nodes: Sequence[Node]) -> list[Row]:
    known: dict[Node, Row] = {}
    for kind, uids in _by_kind(nodes).items():
        for uid, row in neighbours.describe(kind, uids).items():
            known[kind, uid] = {"kind": kind, "uid": uid, **row}
    missing = [node for node in nodes if node not in known]
    left = neighbours.stubs([uid for _, uid in missing]) if missing else {}
    for kind, uid in missing:
        known[kind, uid] = {"kind": "stub", "uid": uid, "was": kind, **left.get(uid, {"label": "", "at": None})}
    return [known[node] for node in nodes]


def dataset_uid(namespace: str, name: str) -> str:
    """Return how lineage names a dataset."""
    return f"{namespace.rstrip('/')}/{name}"
