"""`tidegate events` and `tidegate explain`: what came in, and why it fired, or did not."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.options import Json, Limit, Since, Until, Url, moment

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What came in.")
Uid = Annotated[str, typer.Argument(help="The event's uid, evt_….", show_default=False)]


@app.callback()
def list_events(
    context: typer.Context,
    sensor: Annotated[str | None, typer.Option(help="Only of this sensor.", show_default=False)] = None,
    id: Annotated[str | None, typer.Option("--id", help="The source's own id.", show_default=False)] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only of this type.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List events, newest first."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    page = connect(url).pages(
        "events",
        most=limit,
        sensor=sensor,
        id=id,
        type=type,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
    )
    if json:
        out.as_json(page)
        return
    from tidegate.wording import sized

    rows = [
        (
            item["uid"],
            item["sensor"],
            item["type"],
            item["subject"] or "",
            sized(item["size"]),
            out.age(item["received_at"]),
            out.state("dead") if item["state"] == "dead" else "",
        )
        for item in page["items"]
    ]
    width = 7 if any(item["state"] == "dead" for item in page["items"]) else 6
    columns = ("!event", "!sensor", "type", "subject", ">size", "!received", "state")
    out.show(out.table(columns[:width], [row[:width] for row in rows], "no event"))
    out.more(page)


@app.command("show")
def show_event(uid: Uid, json: Json = False, url: Url = None) -> None:
    """Show an event with its content and what came of it."""
    from tidegate.cli import out

    event = connect(url).get("events", uid)
    if json:
        out.as_json(event)
        return
    import json as encoder

    from tidegate.wording import sized

    data = event["data"]
    shown = data if isinstance(data, str) else encoder.dumps(data, indent=2, ensure_ascii=False)
    attributes = {**event["match"], **event["attributes"]}
    out.show(
        headline(event),
        out.facts(
            (
                ("id", event["id"]),
                ("source", event["source"]),
                ("time", event["time"]),
                ("told by", event["cause_run"]),
                ("trace", event["trace_id"]),
                *((name, value) for name, value in attributes.items()),
            )
        ),
    )
    if event["decisions"]:
        out.show(out.words("decisions", "dim"))
        for decision in event["decisions"]:
            run = out.line("⇒", out.words(decision["run"], "bold")) if decision["run"] else None
            out.show(
                out.line(
                    " ", out.state(decision["outcome"]), decision["trigger"], run, out.words(decision["reason"], "dim")
                )
            )
    out.show(out.words(f"content, {sized(event['size'])} {event['content_type'] or ''}", "dim"))
    if data is not None:
        from rich.text import Text

        out.show(Text(out.clean(shown, lines=True)))


def headline(event: dict[str, Any]) -> Any:
    """Return the first line about an event."""
    from tidegate.cli import out

    dead = out.state("dead") if event["state"] == "dead" else None
    return out.line(
        out.words(event["uid"], "bold"),
        out.words(event["sensor"], "cyan"),
        event["type"],
        out.words(event["subject"] or "", "italic"),
        out.age(event["received_at"]),
        dead,
    )


def register(root: typer.Typer) -> None:
    """Add the commands that stand alone."""
    root.command("explain")(explain)


def explain(
    uid: Uid,
    trigger: Annotated[
        str | None, typer.Option(help="Only this trigger, whether it listens or not.", show_default=False)
    ] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Tell why an event fired triggers, or did not."""
    from tidegate.cli import out

    data = connect(url).get("events", uid, "explain", trigger=trigger)
    if json:
        out.as_json(data)
        return
    out.show(headline(data["event"]))
    if not data["verdicts"]:
        out.show(out.words("  no trigger listens to such events", "dim"))
    for verdict in data["verdicts"]:
        show_verdict(verdict)


def show_verdict(verdict: dict[str, Any]) -> None:
    """Print what a trigger concluded, with the clauses on the way."""
    from tidegate.cli import out

    item = f"[{verdict['item']}]" if verdict["item"] is not None else ""
    basis = out.words("(judged now: nothing is stored)", "dim") if verdict["basis"] == "judged_now" else None
    run = out.line("⇒", out.words(verdict["run"], "bold")) if verdict["run"] else None
    out.show(
        out.line(" ", out.state(verdict["outcome"]), out.words(f"{verdict['trigger']}{item}", "bold"), run, basis),
        out.line("   ", out.words(verdict["reason"])),
    )
    rows = []
    for clause in verdict["clauses"]:
        passed = clause["passed"] if clause["passed"] is not None else None
        mark = out.words(*{True: ("✔", "green"), False: ("✖", "red"), None: ("·", "dim")}[passed])
        found = out.line(
            out.words("expected", "dim"), clause["expected"], out.words("· found", "dim"), clause["actual"] or "nothing"
        )
        rows.append((out.line("   ", mark), out.words(clause["path"], "cyan"), clause["text"], found))
    if rows:
        from rich.table import Table

        grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for _ in range(4):
            grid.add_column(overflow="fold")
        for row in rows:
            grid.add_row(*(cell if not isinstance(cell, str) else out.words(cell) for cell in row))
        out.show(grid)
