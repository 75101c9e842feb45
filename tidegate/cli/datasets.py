"""`tidegate datasets`: what tasks wrote and read, and the history of one dataset."""

from typing import Annotated, Any

import typer

from tidegate.cli.checks import watched, word
from tidegate.cli.client import connect
from tidegate.cli.options import Json, Limit, Url

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What tasks write and read.")


@app.callback()
def list_datasets(context: typer.Context, limit: Limit = 100, json: Json = False, url: Url = None) -> None:
    """List datasets with their last write."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    client = connect(url)
    page = client.pages("datasets", most=limit)
    if json:
        out.as_json(page)
        return
    from tidegate.wording import sized

    rows = [
        (
            out.words(item["dataset"] or item["name"], "magenta"),
            out.words(item["namespace"], "dim"),
            out.words(item["disposition"] or item["mode"]),
            _count(item["rows"]),
            sized(item["bytes"]),
            word(item["freshness"]),
            word(item["checks"]),
            item["version"] or "",
            item["run"],
            out.age(item["at"]),
        )
        for item in page["items"]
    ]
    columns = ("dataset", "namespace", "!how", ">rows", ">size", "!fresh", "!checks", "version", "!run", "!when")
    out.show(out.table(columns, rows, "no dataset was written yet"))
    out.more(page)
    watched(client, page["items"])


@app.command("show")
def show_dataset(
    name: Annotated[
        str, typer.Argument(help="Its name in `datasets:`, or as `datasets` lists it.", show_default=False)
    ],
    namespace: Annotated[str | None, typer.Option(help="Of several with that name.", show_default=False)] = None,
    limit: Limit = 20,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show a dataset: its columns, and its writes and reads, newest first."""
    from tidegate.cli import out
    from tidegate.wording import sized

    answer = connect(url).get("datasets", name, namespace=namespace, limit=min(500, limit))
    if json:
        out.as_json(answer)
        return
    last = answer["last"]
    out.show(out.line(out.words(last["name"], "magenta"), out.words(last["namespace"], "dim")))
    out.show(
        out.table(("column", "type"), [(out.words(name), kind) for name, kind in last["fields"]], "no columns known")
    )
    rows = [
        (
            out.words(item["disposition"] or item["mode"]),
            item["partition"] or "",
            _count(item["rows"]),
            sized(item["bytes"]),
            _changed(item["changes"]),
            item["version"] or "",
            item["run"],
            out.age(item["at"]),
        )
        for item in answer["items"]
    ]
    columns = ("!how", "partition", ">rows", ">size", "columns", "version", "!run", "!when")
    out.show(out.table(columns, rows, "nothing is known of its writes any more"))
    out.more(answer)


def _count(rows: int | None) -> str:
    return "–" if rows is None else f"{rows:,}"


def _changed(changes: dict[str, Any]) -> str:
    """Say in a few words how columns changed."""
    parts = ["created"] if changes.get("created") else []
    parts += [f"+{name} {kind}" for name, kind in changes.get("added", ())]
    parts += [f"-{name}" for name, _ in changes.get("removed", ())]
    parts += [f"{name} {before} → {now}" for name, before, now in changes.get("retyped", ())]
    return ", ".join(parts)
