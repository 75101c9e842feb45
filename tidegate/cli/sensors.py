"""`tidegate sensors`: how they are, pausing them, whether they saw everything, what was refused, trying a webhook."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import PROBLEMS
from tidegate.cli.options import Json, Url

app = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=False,
    help="How sensors are; pause, resume, poll, peek, audit, refused, send.",
)
Name = Annotated[str, typer.Argument(help="The sensor's name.", show_default=False)]
Heal = Annotated[bool, typer.Option("--heal", help="Have what differs looked at again, so that it becomes events.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=100, help="Events and dead letters at most.")]
_PEEK = 60.0  # seconds; the service gives up before
_HOURS = 6 * 3600.0  # millions of objects take their time
File = Annotated[Path, typer.Argument(help="The body to send; - is standard input.", show_default=False)]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="Configuration files; default ./tidegate.yaml.", show_default=False),
]
HeaderWords = Annotated[list[str] | None, typer.Option("--header", "-H", help="A header, as name: value.")]
Query = Annotated[list[str] | None, typer.Option("--query", "-q", help="A query parameter, as name=value.")]
Param = Annotated[list[str] | None, typer.Option("-p", help="A {name} of the path, as name=value.")]
ContentType = Annotated[str | None, typer.Option("--type", help="The content type; by default guessed.")]
Where = Annotated[str | None, typer.Option("--url", help="Where webhooks are; by default the configured `listen`.")]
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
                _behind(health),
                seen,
                why,
            )
        )
    shown = [0, 1, 2, 3, *([4] if any(row[4] for row in rows) else []), 5]
    if any(item["health"]["reason"] for item in items):
        shown.append(6)
    columns = ("!sensor", "kind", "!health", "!last success", "behind", "seen", "why")
    table = out.table([columns[n] for n in shown], [[row[n] for n in shown] for row in rows], "no sensor is configured")
    out.show(table)
    for item in items:
        if len(items) == 1 and item["health"]["shards"]:
            out.show(_shards(item["health"]["shards"]))


def _behind(health: dict[str, Any]) -> str:
    """Say how far a sensor is behind: records where it reads shards, else its own unit."""
    lag = health["lag"]
    if lag is None:
        return ""
    times = [shard["seconds"] for shard in health["shards"] if shard["seconds"]]
    return f"{lag:,.0f}" + (f" ({max(times):,.0f} s)" if lag and times else "")


def _shards(shards: list[dict[str, Any]]) -> Any:
    from tidegate.cli import out

    rows = [
        (
            shard["shard"],
            "" if shard["records"] is None else f"{shard['records']:,}",
            "" if shard["seconds"] is None else f"{shard['seconds']:,.0f} s",
            out.age(shard["last_success"]),
        )
        for shard in shards
    ]
    return out.table(("!shard", "records behind", "age of the last read", "!last success"), rows, "")


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


@app.command()
def refused(name: Name, json: Json = False, url: Url = None) -> None:
    """Show the requests that a webhook refused lately, newest first, and why."""
    from tidegate.cli import out

    found = connect(url).get("sensors", name)["refusals"]
    if json:
        out.as_json({"items": found})
        return
    rows = [
        (
            out.age(item["at"]),
            out.words(str(item["status"]), "red" if item["status"] >= 500 else "yellow"),
            item["code"],
            item["reason"],
            item["client"],
            "" if item["size"] is None else f"{item['size']:,} B",
        )
        for item in found
    ]
    out.show(out.table(("!when", "!status", "!code", "why", "from", "body"), rows, "nothing was refused lately"))


@app.command()
def send(
    name: Name,
    file: File,
    config: Configs = None,
    header: HeaderWords = None,
    query: Query = None,
    param: Param = None,
    content_type: ContentType = None,
    json: Json = False,
    url: Where = None,
) -> None:
    """Sign a sample as its provider would and post it to a webhook; exit code 1 when it is refused."""
    import os
    import sys

    from config.load import load_config
    from config.problems import ConfigProblems
    from tidegate.cli import out, sending
    from tidegate.cli.errors import USAGE, fail
    from tidegate.cli.loading import config_paths

    try:
        loaded = load_config(config_paths(config), environ=os.environ)
    except ConfigProblems as problems:
        fail("the configuration has problems:\n" + "\n".join(str(problem) for problem in problems.problems), PROBLEMS)
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", USAGE)
    entry = loaded.sensors.get(name)
    scheme = getattr(getattr(entry.options if entry else None, "verify", None), "scheme", "")
    sample = sending.Sample(
        body,
        content_type or sending.type_of(file, body, scheme),
        {key.lower(): value for key, value in _pairs(header, ":").items()},
        _pairs(query, "="),
        _pairs(param, "="),
    )
    status, headers, answer = sending.send(loaded, name, sample, url)
    text = answer.decode("utf-8", "replace")
    if json:
        out.as_json({"status": status, "headers": dict(headers), "body": text})
    else:
        out.show(out.line(out.words(str(status), "green" if status < 300 else "red"), out.clean(text, lines=True)))
    raise typer.Exit(sending.exit_code(status))


def _pairs(given: list[str] | None, mark: str) -> dict[str, str]:
    """Read `name<mark>value` words."""
    from tidegate.cli.errors import USAGE, fail

    found: dict[str, str] = {}
    for item in given or ():
        key, there, value = item.partition(mark)
        if not there or not key.strip():
            fail(f"{item} is not name{mark}value", USAGE)
        found[key.strip()] = value.strip()
    return found
