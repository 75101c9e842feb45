"""A pipeline's graph as the drawings see it: nodes from what the API says of a pipeline or a run. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A task: its needs, its state in a run (empty: none), and what else stands beside its name."""

    name: str
    needs: Sequence[str] = ()
    state: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def pipeline_nodes(tasks: Sequence[Mapping[str, Any]]) -> list[GraphNode]:
    """Return the nodes of a pipeline from its tasks as the API shows them."""
    return ordered([GraphNode(task["name"], tuple(task["needs"]), "", _notes(task)) for task in tasks])


def run_nodes(tasks: Sequence[Mapping[str, Any]]) -> list[GraphNode]:
    """Return the nodes of a run from its tasks as the API shows them."""
    return ordered(
        [GraphNode(task["task"], tuple(task["needs"]), str(task["state"]), _progress(task)) for task in tasks]
    )


def _notes(task: Mapping[str, Any]) -> tuple[str, ...]:
    partitions = task["partitions"]
    found = [task["engine"]]
    if task["per"]:
        found.append(f"per partition of {task['per']}")
    elif partitions is not None:
        found.append(f"× {partitions}")
    if task["upstream"] != "all_success":
        found.append(task["upstream"])
    if task["on_failure"] != "stop":
        found.append("may fail")
    if task["when"]:
        found.append(f"when {task['when']}")
    found += [f"pool {pool}" for pool in task["pools"]]
    return tuple(found)


def _progress(task: Mapping[str, Any]) -> tuple[str, ...]:
    found = [str(task["state"])]
    if task["slices"]:
        done = task["slices"].get("succeeded", 0)
        whole = sum(task["slices"].values())
        bad = task["slices"].get("failed", 0)
        found.append(f"{done} of {whole} partitions" + (f", {bad} failed" if bad else ""))
    if task["attempt"] > 1:
        found.append(f"attempt {task['attempt']}")
    return tuple(found)


def ordered(nodes: Sequence[GraphNode]) -> list[GraphNode]:
    """Return nodes after those that they need, otherwise in the order given; needs that are no nodes are left out."""
    left = {node.name: node for node in nodes}
    known = set(left)
    found: list[GraphNode] = []
    placed: set[str] = set()
    while left:
        free = [node for node in left.values() if all(need in placed for need in node.needs if need in known)]
        for node in free or list(left.values()):
            needs = tuple(need for need in node.needs if need in known)
            found.append(GraphNode(node.name, needs, node.state, node.notes))
            placed.add(node.name)
            del left[node.name]
    return found
