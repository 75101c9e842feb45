"""`tidegate dead-letters`: what could not become an event, or could not be judged."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import PROBLEMS, USAGE, fail
from tidegate.cli.options import Json, Limit, Url, Yes, sure

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="What could not be taken in, or judged.")
Uid = Annotated[str, typer.Argument(help="The dead letter's uid, ddl_….", show_default=False)]
Sensor = Annotated[str | None, typer.Option(help="Only of this sensor.", show_default=False)]
Reason = Annotated[str | None, typer.Option(help="Only for this reason.", show_default=False)]
_PATIENCE = 600.0
_STAYS = ("refused", "impossible")  # outcomes that leave a letter as it is


@app.callback()
def list_dead_letters(
    context: typer.Context,
    sensor: Sensor = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are dealt with.")] = False,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List dead letters, newest first."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    retried = None if everything else "false"
    page = connect(url).pages("dead-letters", most=limit, sensor=sensor, reason=reason, retried=retried)
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
            _became(item),
        )
        for item in page["items"]
    ]
    columns = ("!dead letter", "!sensor", "!reason", "detail", "position", "!when", "became")
    width = len(columns) if any(row[-1] for row in rows) else len(columns) - 1
    out.show(out.table(columns[:width], [row[:width] for row in rows], "no dead letter"))
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
                ("became", _became(letter)),
                *letter["attributes"].items(),
            )
        ),
        out.words(f"payload, {sized(letter['size'])} {letter['content_type'] or ''}", "dim"),
    )
    payload = letter["payload"] if letter["payload"] is not None else letter["payload_base64"]
    if payload:
        out.show(Text(out.clean(payload, lines=True)))


def _became(letter: dict[str, Any]) -> str:
    if letter["retried_at"] is None:
        return ""
    return letter["became"] or "looked at again"


@app.command()
def retry(
    uid: Annotated[
        str | None, typer.Argument(help="One letter's uid; or --sensor, --reason for many.", show_default=False)
    ] = None,
    sensor: Sensor = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    yes: Yes = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Judge its event again, or read again what it kept: of one letter, or of all of a sensor or a reason."""
    from tidegate.cli import out

    client = connect(url)
    if uid is not None:
        if sensor or reason or dry_run:
            fail("say either one UID, or --sensor or --reason for many", USAGE)
        items = [client.post("dead-letters", uid, "retry")]
        if json:
            out.as_json(items[0])
    else:
        if sensor is None and reason is None:
            fail("say one UID, or --sensor or --reason for many", USAGE)
        body = {"sensor": sensor, "reason": reason, "dry_run": True}
        if not dry_run:
            if not yes:
                matched = client.post("dead-letters", "retry", body=body)["matched"]
                sure(f"Try {len(matched)} dead letters again?", yes=False)
            body["dry_run"] = False
        answer = client.post("dead-letters", "retry", body=body, patience=_PATIENCE)
        items = answer["items"]
        if json:
            out.as_json(answer)
        elif dry_run:
            out.show(out.words(f"would try {len(answer['matched'])} dead letters again"))
        if answer["more"] and not json:
            out.show(out.words("… there are more; run it again", "yellow"))
    if not json:
        rows = [(item["uid"], _outcome(item["outcome"]), item["became"] or "", item["detail"]) for item in items]
        if rows:
            out.show(out.table(("!dead letter", "!outcome", "!became", "why"), rows))
    if any(item["outcome"] in _STAYS for item in items):
        raise typer.Exit(PROBLEMS)


def _outcome(outcome: str) -> Any:
    from tidegate.cli import out

    return out.state("failed" if outcome in _STAYS else "succeeded", outcome)


@app.command()
def drop(uid: Uid, yes: Yes = False, url: Url = None) -> None:
    """Delete a dead letter for good."""
    sure(f"Delete {uid} with its payload for good?", yes=yes)
    connect(url).delete("dead-letters", uid)
    print(f"dropped {uid}")
