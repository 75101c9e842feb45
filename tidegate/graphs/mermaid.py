"""A graph as Mermaid text: for README files, merge requests and wikis that draw it. Pure."""

from collections.abc import Sequence

from tidegate.graphs.nodes import GraphNode

_COLOURS = {
    "succeeded": "fill:#dcf5e3,stroke:#2d8a4e",
    "running": "fill:#dbeafe,stroke:#2563eb",
    "retry_wait": "fill:#fdf0d2,stroke:#b7791f",
    "failed": "fill:#fde2e1,stroke:#c0362c",
    "cancelled": "fill:#eceef1,stroke:#6b7280",
    "skipped": "fill:#f5f5f5,stroke:#9ca3af,stroke-dasharray:4 3",
    "upstream_failed": "fill:#f5f5f5,stroke:#c0362c,stroke-dasharray:4 3",
}

_ENTITIES = str.maketrans({character: f"#{ord(character)};" for character in '#&"<>`[]{}()|;'})


def mermaid(nodes: Sequence[GraphNode]) -> str:
    """Return a flowchart. Names are quoted, so that nothing in them is taken for syntax."""
    numbers = {node.name: f"t{number}" for number, node in enumerate(nodes)}
    lines = ["flowchart TD"]
    for node in nodes:
        notes = "".join(f"<br/><small>{_safe(note)}</small>" for note in node.notes)
        lines.append(f'    {numbers[node.name]}["{_safe(node.name)}{notes}"]')
    lines += [f"    {numbers[need]} --> {numbers[node.name]}" for node in nodes for need in node.needs]
    states = sorted({node.state for node in nodes} & _COLOURS.keys())
    lines += [f"    classDef {state} {_COLOURS[state]}" for state in states]
    for state in states:
        members = ",".join(numbers[node.name] for node in nodes if node.state == state)
        lines.append(f"    class {members} {state}")
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    """Write what Mermaid or HTML would take for syntax as entities; control characters become spaces."""
    out = "".join(character if character.isprintable() else " " for character in text)
    return out.translate(_ENTITIES)
