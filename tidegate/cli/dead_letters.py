"""`tidegate dead-letters`: what could not become an event, or could not be judged."""

from typing import Annotated

import typer

from tidegate.cli.client import connect
from tidegate.cli.options import Json, Limit, Url, Yes, sure

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What could not be taken in, or judged.")
Uid = Annotated[str, typer.Argument(help="The dead letter's uid, ddl_….", show_default=False)]


@app.callback()
def list_dead_letters(
    context: typer.Context,
    sensor: Annotated[str | None, typer.Option(help="Only of this sensor.", show_default=False)] = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List dead letters, newest first."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    page = connect(url).pages("dead-letters", most=limit, sensor=sensor)
    if json:
        out.as_json(page)
        return
    rows = [
        (
            item["uid"],
            item["sensor"],
            out.words(item["reason"], "red"),
            item["detail"],
            item["position"],
            out.age(item["at"]),
        )
        for item in page["items"]
    ]
    columns = ("!dead letter", "!sensor", "!reason", "detail", "position", "!when")
    out.show(out.table(columns, rows, "no dead letter"))
    out.more(page)


@app.command("show")
def show_dead_letter(uid: Uid, json: Json = False, url: Url = None) -> None:
    """Show a dead letter with its payload."""
    from tidegate.cli import out

    letter = connect(url).get("dead-letters", uid)
    if json:
        out.as_json(letter)
        return
    from rich.text import Text

    from tidegate.wording import sized

    out.show(
        out.line(
            out.words(letter["uid"], "bold"),
            out.words(letter["sensor"], "cyan"),
            out.words(letter["reason"], "red"),
            out.age(letter["at"]),
        ),
        out.facts(
            (
                ("detail", letter["detail"]),
                ("position", letter["position"]),
                ("event", letter["event"]),
                *letter["attributes"].items(),
            )
        ),
        out.words(f"payload, {sized(letter['size'])} {letter['content_type'] or ''}", "dim"),
    )
    payload = letter["payload"] if letter["payload"] is not None else letter["payload_base64"]
    if payload:
        out.show(Text(out.clean(payload, lines=True)))


@app.command()
def drop(uid: Uid, yes: Yes = False, url: Url = None) -> None:
    """Delete a dead letter for good."""
    sure(f"Delete {uid} with its payload for good?", yes=yes)
    connect(url).delete("dead-letters", uid)
    print(f"dropped {uid}")
