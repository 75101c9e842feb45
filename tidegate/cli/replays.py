"""`tidegate replays`: run again what happened; list, show, cancel."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import Client, connect
from tidegate.cli.errors import PROBLEMS, USAGE, fail
from tidegate.cli.options import Json, Limit, Since, Until, Url, Yes, moment, sure

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, help="Run again what happened: start, show, cancel, list."
)
Uid = Annotated[str, typer.Argument(help="The replay's uid, rpl_….", show_default=False)]
_FINAL = ("succeeded", "failed", "cancelled")
_POLL = 1.0
_ORDER = ("looked", "started", "error", "filtered")


@app.callback()
def list_replays(
    context: typer.Context,
    status: Annotated[
        str | None, typer.Option("--status", "--state", help="Only in this state.", show_default=False)
    ] = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List replays, newest first."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    page = connect(url).pages("replays", most=limit, state=status)
    if json:
        out.as_json(page)
        return
    rows = [
        (
            item["uid"],
            out.state(item["state"]),
            _what(item["asked"]),
            out.counts(item["counts"], _ORDER),
            out.age(item["created_at"]),
            out.words(item["reason"], "red" if item["state"] == "failed" else "yellow"),
        )
        for item in page["items"]
    ]
    columns = ["!replay", "!state", "of", "came to", "!asked", "why"]
    width = len(columns) if any(str(row[-1]) for row in rows) else len(columns) - 1
    out.show(out.table(columns[:width], [row[:width] for row in rows], "no replay"))
    out.more(page)


def _what(asked: dict[str, Any]) -> str:
    """Say in words what a replay is of."""
    if asked["events"]:
        what = f"{len(asked['events'])} events" if len(asked["events"]) > 1 else asked["events"][0]
    elif asked["dead_letters"]:
        what = f"{len(asked['dead_letters'])} dead letters"
    else:
        what = f"from {asked['since']}" + (f" until {asked['until']}" if asked["until"] else "")
    parts = [
        what,
        f"by {asked['trigger']}" if asked["trigger"] else "",
        f"partition {asked['partition']}" if asked["partition"] else "",
        f"into {asked['pipeline']}" if asked["pipeline"] else "",
        "as it was" if asked["as_was"] else "",
        f"{asked['rate']:g}/s" if asked["rate"] else "",
        "(dry run)" if asked["dry_run"] else "",
    ]
    return " ".join(part for part in parts if part)


@app.command()
def start(  # noqa: PLR0913, PLR0917 - a parameter is an option of the command
    event: Annotated[
        list[str] | None, typer.Option("--event", help="This event; several: say it again.", show_default=False)
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="What came for this trigger (with --since).", show_default=False)
    ] = None,
    since: Since = None,
    until: Until = None,
    dead_letter: Annotated[
        list[str] | None, typer.Option("--dead-letter", help="The event of this dead letter.", show_default=False)
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Only runs of this partition.", show_default=False)] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Start this pipeline instead of the rules' own.", show_default=False)
    ] = None,
    as_was: Annotated[bool, typer.Option("--as-was", help="Repeat what was decided then.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would start, and what would not.")] = False,
    rate: Annotated[str | None, typer.Option(help="Runs per time, such as 5/s.", show_default=False)] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", help="The same id is the same replay.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until all has been started.")] = False,
    yes: Yes = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Run again what happened, by today's rules or as it was."""
    if bool(event) + bool(dead_letter) + bool(since) != 1 or (since and trigger is None):
        fail("say --event UID, or --dead-letter UID, or --trigger NAME with --since", USAGE)
    body = {
        "events": event or [],
        "dead_letters": dead_letter or [],
        "trigger": trigger,
        "since": moment(since, "--since"),
        "until": moment(until, "--until"),
        "partition": partition,
        "pipeline": pipeline,
        "as_was": as_was,
        "rate": rate,
        "dry_run": dry_run,
        "request_id": request_id,
    }
    if not dry_run and since:
        sure(f"Replay what came for {trigger} since {body['since']}? --dry-run says what it would start.", yes=yes)
    client = connect(url)
    replay = client.post("replays", body=body)
    if wait or dry_run:
        replay = _wait(client, replay["uid"])
    from tidegate.cli import out

    if json:
        out.as_json(replay)
    else:
        _show(client, replay)
    if replay["state"] in ("failed", "cancelled"):
        raise typer.Exit(PROBLEMS)


def _wait(client: Client, uid: str) -> Any:
    import time

    delay = 0.1
    while True:
        replay = client.get("replays", uid)
        if replay["state"] in _FINAL:
            return replay
        time.sleep(delay)
        delay = min(_POLL, delay * 1.5)


@app.command("show")
def show_replay(uid: Uid, json: Json = False, url: Url = None) -> None:
    """Show a replay: how far it is, what it started, and examples of what it did not, with the reason."""
    from tidegate.cli import out

    client = connect(url)
    replay = client.get("replays", uid)
    if json:
        out.as_json(replay)
    else:
        _show(client, replay)


def _show(client: Client, replay: dict[str, Any]) -> None:
    from tidegate.cli import out

    out.show(
        out.line(
            out.words(replay["uid"], "bold"),
            out.state(replay["state"]),
            out.words(_what(replay["asked"]), "cyan"),
            out.age(replay["created_at"]),
        ),
        out.facts((("why", replay["reason"]), ("request", replay["request_id"]))),
        out.line(" ", out.counts(replay["counts"], _ORDER)),
    )
    samples = [
        (
            f"  {sample['outcome'].replace('_', ' ')}",
            sample["cause"],
            sample["trigger"] or "",
            sample["reason"],
        )
        for sample in replay["samples"]
    ]
    if samples:
        out.show(out.words("for example", "dim"), out.table(("!  outcome", "!cause", "!trigger", "why"), samples))
    if replay["counts"].get("started") and not replay["asked"]["dry_run"]:
        page = client.pages("replays", replay["uid"], "runs", most=10)
        runs = [
            (
                f"  {run['run']}",
                out.state(run["state"]) if run["state"] else out.words("past its retention", "dim"),
                run["cause"],
                out.words(f"again after {run['origin']}" if run["origin"] else "", "dim"),
            )
            for run in page["items"]
        ]
        out.show(out.words("last runs", "dim"), out.table(("!  run", "!state", "!of", ""), runs))


@app.command()
def cancel(
    uid: Uid,
    reason: Annotated[str | None, typer.Option(help="Why; stands with the replay.", show_default=False)] = None,
    yes: Yes = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Let a replay go no further; what it has started goes on."""
    sure(f"Cancel {uid}?", yes=yes)
    answer = connect(url).post("replays", uid, "cancel", body={"reason": reason} if reason else {})
    from tidegate.cli import out

    if json:
        out.as_json(answer)
    else:
        out.show(out.line(answer["uid"], out.state(answer["state"]), out.counts(answer["counts"], _ORDER)))
