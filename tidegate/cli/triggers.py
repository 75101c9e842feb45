"""`tidegate triggers`: what they decided, and pausing them."""

from typing import Annotated, Any

import typer

from tidegate.cli.backtest import backtest
from tidegate.cli.client import connect
from tidegate.cli.options import Json, Limit, Since, Until, Url, moment

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What triggers decided; pause, resume.")
app.command("backtest")(backtest)
Name = Annotated[str, typer.Argument(help="The trigger's name.", show_default=False)]
Drop = Annotated[bool, typer.Option("--drop", help="Let go what arrives meanwhile, instead of holding it.")]


@app.callback()
def list_triggers(context: typer.Context, json: Json = False, url: Url = None) -> None:
    """List triggers with exact counts of their decisions."""
    if context.invoked_subcommand is not None:
        return
    data = connect(url).get("triggers")
    _show(data, data["items"], json=json)


def _show(data: Any, items: list[dict[str, Any]], *, json: bool) -> None:
    from tidegate.cli import out

    if json:
        out.as_json(data)
        return
    rows = []
    for item in items:
        state = "disabled" if not item["enabled"] else "paused" if item["paused"] else ""
        rows.append(
            (
                item["name"],
                ", ".join(dict.fromkeys(source["sensor"] for source in item["on"])),
                ", ".join(dict.fromkeys(run["pipeline"] for run in item["runs"])),
                out.counts(item["counts"], ("fired", "error", "filtered", "duplicate")),
                out.state(state, f"{state} ({item['paused']})" if state == "paused" else None) if state else "",
            )
        )
    has_state = any(item["paused"] or not item["enabled"] for item in items)
    columns = ("!trigger", "listens to", "starts", "decisions", "state")
    width = len(columns) if has_state else len(columns) - 1
    out.show(out.table(columns[:width], [row[:width] for row in rows], "no trigger is configured"))


@app.command()
def pause(name: Name, drop: Drop = False, json: Json = False, url: Url = None) -> None:
    """Pause a trigger until it is resumed."""
    item = connect(url).post("triggers", name, "pause", body={"how": "drop" if drop else "hold"})
    _show(item, [item], json=json)


@app.command()
def resume(name: Name, json: Json = False, url: Url = None) -> None:
    """Let a paused trigger go on."""
    item = connect(url).post("triggers", name, "resume")
    _show(item, [item], json=json)


@app.command()
def decisions(
    name: Name,
    outcome: Annotated[
        str | None, typer.Option(help="Only with this outcome, e.g. error or waiting.", show_default=False)
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only about this event.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List what a trigger decided, newest first: what fired, is open or failed, and samples of what was filtered."""
    from tidegate.cli import out

    page = connect(url).pages(
        "triggers",
        name,
        "decisions",
        most=limit,
        outcome=outcome,
        event=event,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
    )
    if json:
        out.as_json(page)
        return
    rows = [
        (
            out.age(item["at"]),
            out.state(item["outcome"]),
            item["events"][0] if len(item["events"]) == 1 else f"{len(item['events'])} events",
            item["run"] or "",
            item["reason"],
        )
        for item in page["items"]
    ]
    out.show(out.table(("!when", "!outcome", "!event", "!run", "why"), rows, "no decision is stored"))
    out.more(page)


@app.command()
def reloads(json: Json = False, url: Url = None) -> None:
    """Tell what the last reloads did to triggers, and to the keys that wait for them, newest first."""
    from tidegate.cli import out

    data = connect(url).get("reloads")
    if json:
        out.as_json(data)
        return
    for item in data["items"]:
        head = out.line(out.age(item["at"]), out.words(item["config"][:12], "bold"), out.words(item["by"], "dim"))
        if item["refused"] is not None:
            out.show(out.line(head, out.state("refused")), out.words(f"  {item['refused']}", "red"))
            continue
        out.show(head)
        for change in item["triggers"]:
            lost = change["given_up"]
            out.show(out.words(f"  {change['words']}", "yellow" if lost else ""))
        if not item["triggers"]:
            out.show(out.words("  no trigger changed", "dim"))
    if not data["items"]:
        out.show(out.words("no reload yet", "dim"))
