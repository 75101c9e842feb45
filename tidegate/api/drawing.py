"""Graphs as answers: SVG, Mermaid, or text for a terminal."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Query, Response

from tidegate.graphs.mermaid import mermaid
from tidegate.graphs.nodes import GraphNode
from tidegate.graphs.svg import svg
from tidegate.graphs.text import draw

GraphFormat = Annotated[Literal["svg", "mermaid", "text"], Query(description="How to draw it.")]


def drawn(nodes: Sequence[GraphNode], form: str) -> Response:
    """Return a drawing. An SVG may be shown by itself: it holds no script, and the answer forbids any."""
    if form == "svg":
        return Response(
            svg(nodes),
            media_type="image/svg+xml",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )
    text = mermaid(nodes) if form == "mermaid" else "".join(f"{line}\n" for line in draw(nodes))
    return Response(text, media_type="text/plain; charset=utf-8")
