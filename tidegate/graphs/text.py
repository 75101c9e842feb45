"""A graph for a terminal: a line per task, rails for what is still needed further down, never wider than asked for.

    ○ crm
    │ ○ erp
    │ │ ○ fx
    ├─┴─┴─● stage
    ● audit

A task stands under the need that it is the last to ask for, else on a rail of its own. Where more rails run in parallel
than fit, the tasks are listed with the names of their needs instead.
"""

from collections.abc import Callable, Sequence

from tidegate.graphs.nodes import GraphNode

MOST_RAILS = 12
_MARKS = {
    "": "○",
    "succeeded": "●",
    "running": "◐",
    "failed": "✗",
    "cancelled": "✗",
    "skipped": "◌",
    "upstream_failed": "◌",
    "retry_wait": "◑",
}

Paint = Callable[[str, str], str]


def draw(nodes: Sequence[GraphNode], width: int = 80, paint: Paint = lambda text, _state: text) -> list[str]:
    """Return the lines. `paint` may colour a name by its state; it must not change what is visible."""
    rails = _rails(nodes)
    if rails is None:
        return [_line(f"{_mark(node)} ", node, width, paint, names=True) for node in nodes]
    return [_line(f"{rail} ", node, width, paint) for rail, node in zip(rails, nodes, strict=True)]


def _mark(node: GraphNode) -> str:
    return _MARKS.get(node.state, "○")


def _line(head: str, node: GraphNode, width: int, paint: Paint, *, names: bool = False) -> str:
    notes = [*node.notes, *([f"needs {', '.join(node.needs)}"] if names and node.needs else [])]
    room = max(8, width - len(head))
    name = _cut(node.name, room)
    rest = _cut("  " + " · ".join(notes), room - len(name)) if notes and room - len(name) > 6 else ""
    return f"{head}{paint(name, node.state)}{rest}".rstrip()


def _cut(text: str, room: int) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}…"


def _rails(nodes: Sequence[GraphNode]) -> list[str] | None:
    """Return the rails of every line; None when too many run in parallel."""
    asked = {node.name: sum(node.name in other.needs for other in nodes) for node in nodes}
    rails: list[str | None] = []  # which task's output each rail carries
    lines = []
    last = -1
    for node in nodes:
        needed = [place for place, source in enumerate(rails) if source in node.needs]
        for need in node.needs:
            asked[need] -= 1
        closing = [place for place in needed if not asked[rails[place] or ""]]
        beyond = needed[-1] + 1 if needed else 0  # one that follows nothing stands under nothing
        taken = {place for place, source in enumerate(rails) if source is not None} | {last}
        mine = closing[0] if closing else next(n for n in range(beyond, len(rails) + 2) if n not in taken)
        rails += [None] * (mine + 1 - len(rails))
        if len(rails) > MOST_RAILS:
            return None
        lines.append(_drawn(rails, node, needed, closing, mine))
        for place in closing:
            rails[place] = None
        rails[mine] = node.name if asked[node.name] else None
        last = mine
        while rails and rails[-1] is None:
            rails.pop()
    return lines


def _drawn(
    rails: Sequence[str | None], node: GraphNode, needed: Sequence[int], closing: Sequence[int], mine: int
) -> str:
    first, last = min([*needed, mine]), max([*needed, mine])
    cells = []
    for place, source in enumerate(rails):
        inside = first <= place <= last
        if place == mine:
            cell = _mark(node)
        elif place in needed and place in closing:
            cell = "╰" if place == first else "╯" if place == last else "┴"
        elif place in needed:
            cell = "├" if place == first else "┤" if place == last else "┼"
        elif source is not None:
            cell = "│"
        else:
            cell = "─" if inside else " "
        cells.append(cell + ("─" if first <= place < last else " "))
    return "".join(cells).rstrip()
