"""`tidegate lineage`: what led to a thing, and what came of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import USAGE, fail
from tidegate.cli.options import Json, Url

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from tidegate.lineage_tree import Branch

_KINDS = {"event": "cyan", "decision": "dim", "run": "bold", "task": "", "dataset": "magenta", "stub": "dim"}


def register(root: typer.Typer) -> None:
    """Add the commands to the root."""
    root.command("lineage")(lineage)


def lineage(
    event: Annotated[str | None, typer.Option(help="Around this event.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option(help="Around this run.", show_default=False)] = None,
    dataset: Annotated[str | None, typer.Option(help="Around this dataset.", show_default=False)] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what led to it.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what came of it.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Tell what led to a thing and what came of it: event ⇒ decision ⇒ run ⇒ output."""
    if sum(value is not None for value in (event, run, dataset)) != 1:
        fail("say one of --event UID, --run UID, --dataset NAME", USAGE)
    direction = "up" if up and not down else "down" if down and not up else "both"
    data = connect(url).get("lineage", event=event, run=run, dataset=dataset, direction=direction)
    from tidegate.cli import out

    if json:
        out.as_json(data)
        return
    out.show(*trees(data))
    if data["truncated"]:
        out.show(out.words("… there is more", "dim"))


def trees(data: dict[str, Any]) -> "list[Tree]":
    """Build the trees of a lineage answer."""
    from tidegate.lineage_tree import grow

    return [_tree(branch) for branch in grow(data["root"], data["nodes"], data["edges"])]


def _tree(branch: "Branch") -> "Tree":
    from rich.tree import Tree

    tree = Tree(_label(branch), guide_style="dim")
    for child in branch.children:
        tree.children.append(_tree(child))
    return tree


def _label(branch: "Branch") -> "Text":
    from tidegate.cli import out
    from tidegate.lineage_tree import checked

    node, details = branch.node, branch.node["details"]
    kind = node["kind"]
    shown = out.words(node["label"], ("reverse " if branch.root else "") + _KINDS.get(kind, ""))
    parts: list[object] = [out.words(kind.replace("_", " "), "dim"), shown]
    if kind in ("run", "task") and "state" in details:
        parts.append(out.state(details["state"]))
    if kind == "run" and (found := checked(details)):
        parts.append(out.words(found, "red" if details["checks_failed"] else "dim"))
    if kind == "task" and details.get("attempt", 0) > 1:
        parts.append(out.words(f"{details['attempt']} attempts", "yellow"))
    rows = branch.rows if branch.rows is not None else details.get("rows")
    if rows is not None:
        parts.append(out.words(f"{rows:,} row{'s' if rows != 1 else ''}", "dim"))
    if kind in ("event", "run", "stub"):
        parts.append(out.words(node["uid"], "dim"))
    if kind in ("event", "run") and details.get("at"):
        parts.append(out.age(details["at"]))
    if branch.again:
        parts.append(out.words("↑ above", "dim"))
    return out.line(*parts)
