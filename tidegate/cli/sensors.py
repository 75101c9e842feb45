"""`tidegate sensors`: how they are, pausing them, and whether they saw everything."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import PROBLEMS
from tidegate.cli.options import Json, Url

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, help="How sensors are; pause, resume, poll, peek, audit."
)
Name = Annotated[str, typer.Argument(help="The sensor's name.", show_default=False)]
Heal = Annotated[bool, typer.Option("--heal", help="Have what differs looked at again, so that it becomes events.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=100, help="Events and dead letters at most.")]
_PEEK = 60.0  # seconds; the service gives up before
_HOURS = 6 * 3600.0  # millions of objects take their time
Drop = Annotated[bool, typer.Option("--drop", help="Let go what arrives meanwhile, instead of holding it.")]


@app.callback()
def list_sensors(context: typer.Context, json: Json = False, url: Url = None) -> None:
    """List sensors with their health."""
    if context.invoked_subcommand is not None:
        return
    data = connect(url).get("sensors")
    _show(data, data["items"], json=json)


def _show(data: Any, items: list[dict[str, Any]], *, json: bool) -> None:
    from tidegate.cli import out

    if json:
        out.as_json(data)
        return
    rows = []
    for item in items:
        health = item["health"]
        why = out.words(health["reason"], "red" if health["state"] == "unhealthy" else "dim")
        seen = out.counts(item["counts"], ("stored", "duplicate"))
        rows.append(
            (
                item["name"],
                out.line(item["kind"], out.words(item["path"] or "", "dim")),
                out.state(health["state"]),
                out.age(health["last_success"]),
                seen,
                why,
            )
        )
    has_reason = any(item["health"]["reason"] for item in items)
    columns = ("!sensor", "kind", "!health", "!last success", "seen", "why")
    width = len(columns) if has_reason else len(columns) - 1
    out.show(out.table(columns[:width], [row[:width] for row in rows], "no sensor is configured"))


@app.command()
def pause(name: Name, drop: Drop = False, json: Json = False, url: Url = None) -> None:
    """Pause a sensor until it is resumed."""
    item = connect(url).post("sensors", name, "pause", body={"how": "drop" if drop else "hold"})
    _show(item, [item], json=json)


@app.command()
def resume(name: Name, json: Json = False, url: Url = None) -> None:
    """Let a paused sensor go on."""
    item = connect(url).post("sensors", name, "resume")
    _show(item, [item], json=json)


@app.command()
def poll(name: Name, json: Json = False, url: Url = None) -> None:
    """Make a sensor look now."""
    item = connect(url).post("sensors", name, "poll")
    _show(item, [item], json=json)


@app.command()
def audit(name: Name, heal: Heal = False, json: Json = False, url: Url = None) -> None:
    """Compare what a source holds with what is remembered; exit code 1 when something is missing."""
    from tidegate.cli import out

    report = connect(url).post("sensors", name, "audit", patience=_HOURS, heal="true" if heal else None)
    if json:
        out.as_json(report)
    else:
        _show_audit(report)
    if report["missing"]["count"] or report["problem"]:
        raise typer.Exit(PROBLEMS)


@app.command()
def peek(name: Name, count: Count = 5, json: Json = False, url: Url = None) -> None:
    """Show what a sensor would emit next; nothing is stored, moved or acknowledged."""
    from tidegate.cli import out

    found = connect(url).post("sensors", name, "peek", patience=_PEEK, limit=count)
    if json:
        out.as_json(found)
        return
    for event in found["events"]:
        _show_peeked(event)
    for letter in found["dead_letters"]:
        out.show(
            out.line(out.state("dead", "dead letter"), out.words(letter["reason"], "bold"), letter["position"]),
            out.line(" ", out.words(letter["detail"], "dim")),
        )
    if not found["events"] and not found["dead_letters"]:
        out.show(out.words("nothing new now", "dim"))


def _show_peeked(event: dict[str, Any]) -> None:
    import json as encoder

    from rich.text import Text

    from tidegate.cli import out

    again = out.state("duplicate", "stored already") if event["stored"] else None
    data = event["data"]
    shown = data if isinstance(data, str) else encoder.dumps(data, indent=2, ensure_ascii=False)
    attributes = {**event["match"], **event["attributes"]}
    out.show(
        out.line(out.words(event["type"], "bold"), out.words(event["subject"] or "", "italic"), again),
        out.facts((("id", event["id"]), ("source", event["source"]), ("time", event["time"]), *attributes.items())),
    )
    if data is not None:
        out.show(Text(out.clean(shown, lines=True)))


def _show_audit(report: dict[str, Any]) -> None:
    from tidegate.cli import out

    sorts = ("missing", "changed", "extra")
    marks = {sort: out.words(f"{report[sort]['count']:,}", "red" if report[sort]["count"] else "") for sort in sorts}
    out.show(
        out.words(report["sensor"], "bold"),
        out.facts(
            (
                ("listed", f"{report['listed']:,}"),
                ("remembered", f"{report['remembered']:,}"),
                *marks.items(),
                *((f"waiting: {why}", f"{n:,}") for why, n in report["waiting"].items()),
                *((f"ignored: {why}", f"{n:,}") for why, n in report["ignored"].items()),
                ("handed to the sensor", f"{report['healed']:,}" if report["healed"] else None),
                ("problem", out.words(report["problem"], "red") if report["problem"] else None),
            )
        ),
    )
    rows = [(out.words(sort, "red"), one["key"], one["reason"]) for sort in sorts for one in report[sort]["first"]]
    if rows:
        out.show(out.table(("!what", "object", "why"), rows))
        hidden = sum(report[sort]["count"] for sort in sorts) - len(rows)
        if hidden:
            out.show(out.words(f"… and {hidden:,} more", "dim"))
