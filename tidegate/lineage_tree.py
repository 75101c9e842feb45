"""The lineage graph as a tree that people read from cause to outcome: event, decision, run, tasks and datasets. Pure.

In flow nodes and edges as the API answers them; out flow nested branches. What the graph says twice is said once: the
trigger event between a decision and its run is passed over, and so is the short cut from an event to its run. A node
with several causes stands in full below the first and is only named below the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_DEEPEST = 60
_ORDER = {"event": 0, "stub": 1, "decision": 2, "trigger_event": 3, "run": 4, "task": 5, "dataset": 6}

Item = Mapping[str, Any]


@dataclass(slots=True)
class Branch:
    """A node with what came of it. `again`: it stands in full elsewhere. `root`: it is what was asked about.

    `rows`: how many rows the run above wrote of a dataset, whatever others wrote since.
    """

    node: Item
    children: list["Branch"] = field(default_factory=list)
    again: bool = False
    root: bool = False
    rows: int | None = None


def checked(details: Item) -> str:
    """Say what the checks of a run found, in a few words; empty when there were none."""
    n, failed = details.get("checks", 0), details.get("checks_failed", 0)
    if not n:
        return ""
    return f"{failed} of {n} checks failed" if failed else f"{n} check{'s' if n != 1 else ''} passed"


def grow(root: str, nodes: Sequence[Item], edges: Sequence[Item]) -> list[Branch]:
    """Return the trees of a graph, one for each node that nothing led to."""
    by_uid = {node["uid"]: node for node in nodes}
    following = _following(by_uid, edges)
    led_to = {target for source, targets in following.items() for target in targets if target != source}
    starts = [uid for uid in by_uid if uid not in led_to and by_uid[uid]["kind"] != "trigger_event"]
    grown: set[str] = set()
    wrote = {(edge["from"], edge["to"]): edge.get("rows") for edge in edges if edge["kind"] == "wrote"}
    forest = [_branch(uid, by_uid, following, root, grown, 0) for uid in _sorted(starts, by_uid)]
    # A circle (a run that reads what it wrote) has no start: what was not reached begins where the question was.
    rest = _sorted([uid for uid in by_uid if uid not in grown and by_uid[uid]["kind"] != "trigger_event"], by_uid)
    forest += [_branch(uid, by_uid, following, root, grown, 0) for uid in rest if uid not in grown]
    for branch in forest:
        _count(branch, wrote)
    return forest


def _count(branch: Branch, wrote: Mapping[tuple[str, str], int | None]) -> None:
    """Note at each dataset what the run above it wrote."""
    for child in branch.children:
        child.rows = wrote.get((branch.node["uid"], child.node["uid"]))
        _count(child, wrote)


def _following(by_uid: Mapping[str, Item], edges: Sequence[Item]) -> dict[str, list[str]]:
    """Return what follows each node, without trigger events and short cuts."""
    raw: dict[str, dict[str, str]] = {uid: {} for uid in by_uid}
    for edge in edges:
        if edge["from"] in raw and edge["to"] in raw:
            raw[edge["from"]][edge["to"]] = edge["kind"]
    following: dict[str, list[str]] = {}
    for uid, targets in raw.items():
        found: dict[str, None] = {}
        for target in targets:
            if by_uid[target]["kind"] == "trigger_event":
                found.update(dict.fromkeys(raw[target]))
            else:
                found[target] = None
        following[uid] = list(found)
    for uid, judged in following.items():
        if by_uid[uid]["kind"] == "event":
            through = {run for target in judged if by_uid[target]["kind"] == "decision" for run in following[target]}
            following[uid] = [target for target in judged if target not in through]
    return following


def _branch(
    uid: str, by_uid: Mapping[str, Item], following: Mapping[str, list[str]], root: str, grown: set[str], depth: int
) -> Branch:
    branch = Branch(by_uid[uid], root=uid == root)
    if uid in grown or depth > _DEEPEST:
        branch.again = True
        return branch
    grown.add(uid)
    branch.children = [
        _branch(child, by_uid, following, root, grown, depth + 1) for child in _sorted(following[uid], by_uid)
    ]
    return branch


def _sorted(uids: Sequence[str], by_uid: Mapping[str, Item]) -> list[str]:
    """Order by kind, then by age: by the moment that is told, tasks that never started last, else by uid."""
    return sorted(uids, key=lambda uid: (_ORDER.get(by_uid[uid]["kind"], 9), _moment(by_uid[uid]), uid))


def _moment(node: Item) -> str:
    at = node.get("details", {}).get("at")
    return "~" if at is None else str(at)
