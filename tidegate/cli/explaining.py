"""`tidegate explain`: why an event fired triggers, or did not, for a person to read."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.events import Uid, headline
from tidegate.cli.options import Json, Url

_MARKS = {True: ("✔", "green"), False: ("✖", "red"), None: ("·", "dim")}


def register(root: typer.Typer) -> None:
    """Add the command, which stands alone."""
    root.command("explain")(explain)


def explain(
    uid: Uid,
    trigger: Annotated[
        str | None, typer.Option(help="Only this trigger, whether it listens or not.", show_default=False)
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Also why the other triggers do not listen.")] = False,
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
        out.show(out.words("  no trigger listens to such events", "yellow"))
    for verdict in data["verdicts"]:
        show_verdict(verdict)
    others, number = data["others"], data["other_count"]
    if all:
        for other in others:
            out.show(out.line(" ", out.words("·", "dim"), other["trigger"], out.words(other["reason"], "dim")))
    elif number:
        listen = "trigger does" if number == 1 else "triggers do"
        out.show(out.words(f"  {number} other {listen} not listen to it (--all tells why)", "dim"))


def show_verdict(verdict: dict[str, Any]) -> None:
    """Print what a trigger concluded, with the clauses on the way and what would have turned the one that failed."""
    from tidegate.cli import out

    item = f"[{verdict['item']}]" if verdict["item"] is not None else ""
    basis = out.words("(judged again: nothing is stored)", "dim") if verdict["basis"] == "judged_now" else None
    run = out.line("⇒", out.words(verdict["run"], "bold")) if verdict["run"] else None
    way = verdict.get("in_the_way") or {}
    state = out.state(way["state"]) if way.get("state") else None
    out.show(
        out.line(
            " ", out.state(verdict["outcome"]), out.words(f"{verdict['trigger']}{item}", "bold"), run, state, basis
        ),
        out.line("   ", out.words(verdict["reason"])),
    )
    if verdict.get("note"):
        out.show(out.line("   ", out.words(verdict["note"], "yellow")))
    if verdict.get("waiting"):
        _show_waiting(verdict["waiting"])
    rows = list(_rows(verdict["clauses"], 0))
    if rows:
        from rich.table import Table

        grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for _ in range(3):
            grid.add_column(overflow="fold")
        for row in rows:
            grid.add_row(*(cell if not isinstance(cell, str) else out.words(cell) for cell in row))
        out.show(grid)


def _show_waiting(waiting: dict[str, Any]) -> None:
    from tidegate.cli import out

    there = ", ".join(f"{part} ({n})" if n != 1 else part for part, n in waiting["there"].items())
    out.show(
        out.line("    ", out.words("there  ", "dim"), out.words(there or "nothing yet", "green")),
        out.line("    ", out.words("missing", "dim"), out.words(", ".join(waiting["missing"]) or "nothing", "yellow")),
        out.line("    ", out.words("until  ", "dim"), waiting["until"] or "for ever"),
    )


def _rows(clauses: Sequence[dict[str, Any]], depth: int) -> Iterator[tuple[Any, ...]]:
    from tidegate.cli import out

    for clause in clauses:
        mark = out.words(*_MARKS[clause["passed"]])
        indent = "  " * depth
        found = out.line(
            out.words("expected", "dim"), clause["expected"], out.words("· found", "dim"), clause["actual"] or "nothing"
        )
        head = out.line(f"    {indent}", mark, out.words(clause["path"], "cyan"))
        yield head, f"{indent}{clause['text']}", found
        parts = clause.get("parts") or []
        yield from _rows(parts, depth + 1)
        changes = clause.get("changes") or []
        deeper = any(part["passed"] is False and part["changes"] for part in parts)
        if changes and not deeper:
            words = " and ".join(change["words"] for change in changes)
            yield "", "", out.line(out.words("would do:", "dim"), out.words(words, "green"))
