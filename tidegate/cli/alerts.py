"""`tidegate alerts`: what people were told, what is still on its way, and whether a route works."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import PROBLEMS
from tidegate.cli.options import Json, Limit, Url

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What people are told.")
_PATIENCE = 60.0


@app.callback()
def list_alerts(
    context: typer.Context,
    route: Annotated[str | None, typer.Option(help="Only of this route.", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, run_failed, ….", show_default=False)] = None,
    state: Annotated[str | None, typer.Option(help="pending, sent, failed or suppressed.", show_default=False)] = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List alerts, newest first, with what became of them."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    page = connect(url).pages("alerts", most=limit, route=route, kind=kind, state=state)
    if json:
        out.as_json(page)
        return
    rows = [
        (
            item["route"],
            out.words(item["kind"].replace("_", " ") + (" ended" if item["ends"] else "")),
            item["subject"],
            f"{item['count']:,}",
            out.state(item["state"]),
            _story(item),
            item["text"],
            out.age(item["at"]),
        )
        for item in page["items"]
    ]
    columns = ("!route", "!kind", "!subject", ">count", "!state", "deliveries", "text", "!when")
    out.show(out.table(columns, rows, "no alert"))
    out.more(page)


def _story(item: dict[str, Any]) -> str:
    """Return what stands between an alert and its readers."""
    if item["reason"]:
        return str(item["reason"])
    from tidegate.cli import out
    from tidegate.wording import ago

    parts = []
    for one in item["deliveries"]:
        if one["error"]:
            following = f", again {ago(one['next_try'], out.now())}" if one["next_try"] else ""
            parts.append(f"{one['target']}: {one['error']} (attempt {one['attempts']}{following})")
        else:
            parts.append(str(one["target"]))
    return "; ".join(parts)


@app.command("test")
def try_route(
    name: Annotated[str, typer.Argument(help="The route's name in `alerts:`.", show_default=False)],
    json: Json = False,
    url: Url = None,
) -> None:
    """Send a test message to every target of a route and say what happened; exit code 1 when one did not take it."""
    from tidegate.cli import out

    answer = connect(url).post("alerts", name, "test", patience=_PATIENCE)
    if json:
        out.as_json(answer)
    else:
        for one in answer["targets"]:
            out.show(out.line(out.state("sent" if one["ok"] else "failed"), one["target"], one["error"]))
    if not answer["ok"]:
        raise typer.Exit(PROBLEMS)
