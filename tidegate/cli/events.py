"""`tidegate events`: what came in, and what came of it."""

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
