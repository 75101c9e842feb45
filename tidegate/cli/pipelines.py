"""`tidegate pipelines`: what is configured, and how its tasks hang together."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.options import Json, Url

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Pipelines: list them, show their graphs.")
Name = Annotated[str, typer.Argument(help="The pipeline's name.", show_default=False)]


@app.callback()
def list_pipelines(context: typer.Context, json: Json = False, url: Url = None) -> None:
    """List pipelines with what waits in each."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    data = connect(url).get("pipelines")
    if json:
        out.as_json(data)
        return
    rows = [
        (
            out.words(item["name"], "bold"),
            str(len(item["tasks"])),
            out.words(", ".join(dict.fromkeys(task["engine"] for task in item["tasks"])), "dim"),
            str(item["concurrency"]),
            out.counts(item["waiting"], ("running", "queued")),
            out.words(", ".join(item["tags"]), "dim"),
        )
        for item in data["items"]
    ]
    columns = ["!pipeline", ">tasks", "engines", ">at once", "runs", "tags"]
    out.show(out.table(columns, rows, "no pipeline is configured"))


@app.command()
def show(
    name: Name,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the graph as Mermaid text.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Print the graph as an SVG picture.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show a pipeline: its parameters, and the graph of its tasks."""
    from tidegate.cli import out

    item = connect(url).get("pipelines", name)
    if json:
        out.as_json(item)
        return
    from tidegate.graphs.nodes import pipeline_nodes

    if picture(pipeline_nodes(item["tasks"]), mermaid=mermaid, svg=svg):
        return
    params = item["params"]
    out.show(
        out.line(out.words(item["name"], "bold cyan"), out.words(item["hash"][:12], "dim")),
        out.facts(
            (
                ("params", _params(params) if params else "takes any" if params is None else "takes none"),
                ("at once", f"{item['concurrency']} runs, {item['max_tasks']} tasks of each"),
                ("timeout", f"{item['timeout']:g} s" if item["timeout"] else None),
                ("tags", ", ".join(item["tags"]) or None),
            )
        ),
    )
    show_graph(pipeline_nodes(item["tasks"]))


def picture(nodes: list[Any], *, mermaid: bool, svg: bool) -> bool:
    """Print a drawing for a file, if one is asked for."""
    if mermaid:
        from tidegate.graphs.mermaid import mermaid as as_mermaid

        print(as_mermaid(nodes), end="")
    if svg and not mermaid:
        from tidegate.graphs.svg import svg as as_svg

        print(as_svg(nodes), end="")
    return mermaid or svg


def show_graph(nodes: list[Any]) -> None:
    """Print a graph for a terminal, within its width, names coloured by state."""
    from shutil import get_terminal_size

    from rich.text import Text

    from tidegate.cli import out
    from tidegate.graphs.text import draw

    for text, node in zip(draw(nodes, get_terminal_size((80, 24)).columns - 1), nodes, strict=True):
        head, name, rest = text.partition(node.name)
        style = out.state(node.state).style if node.state else "bold"
        out.show(Text("").join((out.words(head, "dim"), out.words(name, str(style)), out.words(rest, "dim"))))


def _params(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} ({param['type']}{', required' if param['required'] else ''})" for name, param in params.items()
    )
