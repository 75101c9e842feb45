"""A graph as SVG: layers from top to bottom, needs above, in one self-contained picture. Pure.

A task's layer is the longest way to it; within a layer tasks stand near the middle of what they need, which keeps lines
short. Texts are escaped; the picture holds no script and loads nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from html import escape

from tidegate.graphs.nodes import GraphNode

_WIDE, _THIN, _HIGH, _APART, _BETWEEN, _EDGE = 190, 14, 46, 26, 54, 20
_FILL: Mapping[str, tuple[str, str]] = {
    "": ("#f4f6f9", "#5b6b82"),
    "succeeded": ("#dcf5e3", "#2d8a4e"),
    "running": ("#dbeafe", "#2563eb"),
    "retry_wait": ("#fdf0d2", "#b7791f"),
    "failed": ("#fde2e1", "#c0362c"),
    "cancelled": ("#eceef1", "#6b7280"),
    "skipped": ("#fafafa", "#9ca3af"),
    "upstream_failed": ("#fafafa", "#c0362c"),
}
_DASHED = ("skipped", "upstream_failed", "pending", "ready")


Cell = tuple[str, str, int]  # a way from one task to another on a layer between them; a task itself is ("", name, 0)


def svg(nodes: Sequence[GraphNode]) -> str:
    """Return the picture."""
    layer = _layers(nodes)
    places = _places(nodes, layer)
    width = max((x + _width(cell) for cell, (x, _) in places.items()), default=0) + _EDGE
    height = max((y for _, y in places.values()), default=0) + _HIGH + _EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 8 4 0 8z" fill="#8a97a8"/></marker></defs>',
        '<g font-family="system-ui, sans-serif" role="img" aria-label="tasks and what they need">',
    ]
    parts += [_line(_way(need, node.name, layer), places) for node in nodes for need in node.needs]
    parts += [_box(node, *places["", node.name, 0]) for node in nodes]
    return "\n".join([*parts, "</g></svg>"]) + "\n"


def _layers(nodes: Sequence[GraphNode]) -> Mapping[str, int]:
    layer: dict[str, int] = {}
    for node in nodes:
        layer[node.name] = max((layer[need] + 1 for need in node.needs), default=0)
    return layer


def _way(need: str, name: str, layer: Mapping[str, int]) -> list[Cell]:
    """Return the cells that lie on the way from a need to a task, both included."""
    between = [(need, name, depth) for depth in range(layer[need] + 1, layer[name])]
    return [("", need, 0), *between, ("", name, 0)]


def _width(cell: Cell) -> int:
    return _THIN if cell[0] else _WIDE


def _places(nodes: Sequence[GraphNode], layer: Mapping[str, int]) -> Mapping[Cell, tuple[int, int]]:
    """Return where each cell stands: layer by layer, each near the middle of what leads to it."""
    rows: dict[int, list[Cell]] = {}
    above: dict[Cell, list[Cell]] = {}
    for node in nodes:
        rows.setdefault(layer[node.name], []).append(("", node.name, 0))
        for need in node.needs:
            way = _way(need, node.name, layer)
            for before, cell in itertools.pairwise(way):
                above.setdefault(cell, []).append(before)
                if cell[0]:
                    rows.setdefault(cell[2], []).append(cell)
    widest = max((_row_width(row) for row in rows.values()), default=0)
    places: dict[Cell, tuple[int, int]] = {}

    def middle(cell: Cell) -> float:
        leading = above.get(cell, ())
        return sum(places[one][0] + _width(one) / 2 for one in leading) / max(1, len(leading))

    for depth in sorted(rows):
        row = sorted(rows[depth], key=middle) if depth else rows[depth]
        x = _EDGE + (widest - _row_width(row)) // 2
        for cell in row:
            places[cell] = (x, _EDGE + depth * (_HIGH + _BETWEEN))
            x += _width(cell) + _APART
    return places


def _row_width(row: Sequence[Cell]) -> int:
    return sum(_width(cell) + _APART for cell in row) - _APART


def _line(way: Sequence[Cell], places: Mapping[Cell, tuple[int, int]]) -> str:
    """Draw the way between two tasks: curves from layer to layer, straight through the layers between them."""
    x, y = places[way[0]]
    path = f"M{x + _WIDE // 2} {y + _HIGH}"
    for before, cell in itertools.pairwise(way):
        x1, y1 = places[before][0] + _width(before) // 2, places[before][1] + _HIGH
        x2, y2 = places[cell][0] + _width(cell) // 2, places[cell][1] - (0 if cell[0] else 1)
        bend = (y2 - y1) // 2
        path += f"C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
        if cell[0]:
            path += f"V{y2 + _HIGH}"
    return f'<path d="{path}" fill="none" stroke="#8a97a8" stroke-width="1.5" marker-end="url(#tip)"/>'


def _box(node: GraphNode, x: int, y: int) -> str:
    fill, stroke = _FILL.get(node.state, _FILL[""])
    dash = ' stroke-dasharray="5 3"' if node.state in _DASHED else ""
    notes = " · ".join(node.notes)
    title = escape(_printable(f"{node.name}: {notes}" if notes else node.name))
    return (
        f'<g><title>{title}</title><rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="7" fill="{fill}"'
        f' stroke="{stroke}" stroke-width="1.5"{dash}/>'
        f'<text x="{x + 12}" y="{y + 19}" font-size="14" font-weight="600" fill="#1c2733">{_text(node.name, 21)}</text>'
        f'<text x="{x + 12}" y="{y + 36}" font-size="11" fill="#4b5a6b">{_text(notes, 30)}</text></g>'
    )


def _text(text: str, room: int) -> str:
    text = _printable(text)
    return escape(text if len(text) <= room else f"{text[: room - 1]}…")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
