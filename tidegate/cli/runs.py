"""`tidegate runs`: list, start, show, read logs, cancel, resume; the partitions of their tasks."""

from typing import Annotated, Any

import typer

from tidegate.cli.client import Client, connect
from tidegate.cli.errors import USAGE, fail
from tidegate.cli.options import Json, Limit, Since, Until, Url, Yes, moment, parameters, sure

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, help="Runs: list, start, show, logs, cancel, resume."
)
Uid = Annotated[str, typer.Argument(help="The run's uid, run_….", show_default=False)]
_POLL = 1.0


@app.callback()
def list_runs(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Option(help="Only of this pipeline.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option("--status", "--state", help="Only in this state.", show_default=False)
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Only by this trigger.", show_default=False)] = None,
    event: Annotated[str | None, typer.Option(help="Only caused by this event.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List runs, newest first."""
    if context.invoked_subcommand is not None:
        return
    from tidegate.cli import out

    page = connect(url).pages(
        "runs",
        most=limit,
        pipeline=pipeline,
        state=status,
        trigger=trigger,
        event=event,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
    )
    if json:
        out.as_json(page)
        return
    out.show(_table(page["items"], "no run"))
    out.more(page)


def _table(items: list[dict[str, Any]], empty: str) -> Any:
    from tidegate.cli import out

    rows = [
        (
            item["uid"],
            out.words(item["pipeline"], "bold"),
            out.state(item["state"]),
            out.words(item["trigger"] or "by hand", "" if item["trigger"] else "dim"),
            item["partition"] or "",
            out.took(item["duration"]),
            out.age(item["created_at"]),
            out.words(_short(item["error"] or item["cancel_reason"]), "red" if item["error"] else "yellow"),
        )
        for item in items
    ]
    columns = ["!run", "pipeline", "!state", "trigger", "partition", ">took", "!created", "error"]
    keep = [
        index
        for index, name in enumerate(columns)
        if name not in ("partition", "error") or any(str(row[index]) for row in rows)
    ]
    return out.table([columns[index] for index in keep], [[row[index] for index in keep] for row in rows], empty)


def _short(words: str | None, limit: int = 100) -> str:
    first = (words or "").partition("\n")[0]
    return first if len(first) <= limit else f"{first[: limit - 1]}…"


@app.command()
def start(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.", show_default=False)],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="k=text or k:=JSON.", show_default=False)
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Of this partition.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(help="Start it once only for this key.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for its end; exit 1 unless it succeeds.")] = False,
    logs: Annotated[bool, typer.Option("--logs", "-l", help="Print its log until it ends; waits as --wait.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Start a run by hand."""
    client = connect(url)
    body = {"pipeline": pipeline, "params": parameters(param or []), "partition": partition, "key": key}
    run = client.post("runs", body=body)
    from tidegate.cli import out

    if logs:
        if not json:
            out.show(_table([run], ""))
        _print_logs(client, run["uid"], None, follow=True, json=json)
    if wait or logs:
        run = _wait(client, run["uid"])
    if json:
        out.as_json(run)
    else:
        out.show(_table([run], ""))
    if (wait or logs) and run["state"] != "succeeded":
        raise typer.Exit(1)


def _wait(client: Client, uid: str) -> Any:
    import time

    delay = 0.1
    while True:
        run = client.get("runs", uid)
        if run["state"] in ("succeeded", "failed", "cancelled"):
            return run
        time.sleep(delay)
        delay = min(_POLL, delay * 1.5)


@app.command("show")
def show_run(
    uid: Uid,
    graph: Annotated[bool, typer.Option("--graph", help="Draw its tasks with their states instead.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="With --graph: as Mermaid text.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="With --graph: as an SVG picture.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show a run: its causes, tasks and lineage."""
    from tidegate.cli import out

    client = connect(url)
    run = client.get("runs", uid)
    if json:
        out.as_json(run)
        return
    if graph or mermaid or svg:
        from tidegate.cli.pipelines import picture, show_graph
        from tidegate.graphs.nodes import run_nodes

        nodes = run_nodes(run["tasks"])
        if not picture(nodes, mermaid=mermaid, svg=svg):
            out.show(
                out.line(
                    out.words(run["uid"], "bold"), out.words(run["pipeline"], "bold cyan"), out.state(run["state"])
                )
            )
            show_graph(nodes)
        return
    from tidegate.cli.run_view import show

    show(run, client.get("lineage", run=uid))


@app.command()
def slices(
    uid: Uid,
    task: Annotated[str | None, typer.Option(help="Only of this task.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option("--status", "--state", help="Only in this state.", show_default=False)
    ] = None,
    limit: Limit = 50,
    json: Json = False,
    url: Url = None,
) -> None:
    """List the partitions that a run's tasks fanned out into."""
    from tidegate.cli import out
    from tidegate.cli.run_view import tasks

    page = connect(url).pages("runs", uid, "slices", most=limit, task=task, state=status)
    if json:
        out.as_json(page)
        return
    out.show(tasks(page["items"]))
    for item in page["items"]:
        if item["error"]:
            label = out.state("failed", f"{item['task']} [{item['partition']}]")
            out.show(out.line(" ", label, out.words(_short(item["error"]), "red")))
    out.more(page)


@app.command()
def logs(
    uid: Uid,
    task: Annotated[str | None, typer.Option(help="Only of this task.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Print a run's log."""
    _print_logs(connect(url), uid, task, follow=follow, json=json)


def _print_logs(client: Client, uid: str, task: str | None, *, follow: bool, json: bool) -> None:
    """Print the log's lines in order; with `follow` until the run has ended."""
    import time

    from tidegate.cli import out

    after, console = 0, out.console()
    while True:
        page = client.get("runs", uid, "logs", after=after, limit=5000, task=task)
        for line in page["lines"]:
            if json:
                import json as encoder

                print(encoder.dumps(line), flush=True)
                continue
            style = "red" if line["stream"] == "stderr" else ""
            head = out.words(f"{line['at'][11:23].rstrip('Z'):<12} {line['task']}", "dim")
            console.print(out.line(head, out.words(line["text"], style)), soft_wrap=True)
        reached, after = after, page["after"]
        if page["final"] or (not follow and after == reached):
            return
        if after == reached:
            time.sleep(_POLL)


@app.command()
def cancel(
    uid: Uid,
    reason: Annotated[str | None, typer.Option(help="Why; stands with the run.", show_default=False)] = None,
    yes: Yes = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Ask a run to stop."""
    sure(f"Cancel {uid}?", yes=yes)
    answer = connect(url).post("runs", uid, "cancel", body={"reason": reason} if reason else {})
    from tidegate.cli import out

    if json:
        out.as_json(answer)
    else:
        out.show(out.line(answer["uid"], out.state(answer["state"])))


@app.command()
def resume(
    uid: Annotated[str | None, typer.Argument(help="One run's uid; or --status for many.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="All that `failed` or were `cancelled`.", show_default=False)
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only of this pipeline.", show_default=False)] = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    yes: Yes = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Run again what did not succeed: of one run, or of all that ended so within a time."""
    from tidegate.cli import out

    client = connect(url)
    if uid is not None:
        if status or pipeline or since or until or dry_run:
            fail("say either one UID, or --status and --since for many", USAGE)
        run = client.post("runs", uid, "resume")
        if json:
            out.as_json(run)
        else:
            out.show(_table([run], ""))
        return
    if status not in ("failed", "cancelled") or since is None:
        fail("say one UID, or --status failed|cancelled and --since for many", USAGE)
    body = {
        "status": status,
        "since": moment(since, "--since"),
        "until": moment(until, "--until"),
        "pipeline": pipeline,
        "dry_run": True,
    }
    if not dry_run:
        if not yes:
            matched = client.post("runs", "resume", body=body)["matched"]
            sure(f"Resume {len(matched)} runs?", yes=False)
        body["dry_run"] = False
    answer = client.post("runs", "resume", body=body)
    if json:
        out.as_json(answer)
        return
    verb = "would resume" if dry_run else "resumed"
    shown = answer["matched"] if dry_run else answer["resumed"]
    out.show(out.words(f"{verb} {len(shown)} of {len(answer['matched'])} runs"))
    for run in shown:
        out.show(out.words(f"  {run}"))
    for item in answer["refused"]:
        out.show(out.line(" ", out.state("failed", item["run"]), out.words(item["reason"], "red")))
    if answer["more"]:
        out.show(out.words("… there are more; run it again", "yellow"))
