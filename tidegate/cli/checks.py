"""`tidegate checks` and what other commands show of checks and freshness: results with words a person can act on."""

import json as encoder
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from tidegate.cli.client import Client, connect
from tidegate.cli.options import Json, Url

_OUTCOMES = {"passed": "succeeded", "warned": "paused", "failed": "failed"}
_FRESH = {"fresh": "healthy", "stale": "unhealthy", "unknown": "error", "new": "starting"}


def register(root: typer.Typer) -> None:
    """Add the command to the root."""
    root.command("checks")(checks)


def checks(
    dataset: Annotated[
        str, typer.Argument(help="Its name in `datasets:`, or as `tidegate datasets` lists it.", show_default=False)
    ],
    json: Json = False,
    url: Url = None,
) -> None:
    """Show what each check of a dataset found last, and how fresh the dataset is."""
    from tidegate.cli import out

    answer = connect(url).get("checks", dataset=dataset)
    if json:
        out.as_json(answer)
        return
    if answer["freshness"] is not None:
        out.show(_fresh_facts(answer["freshness"]))
    results(answer["items"], "no check of it has a result", dated=True)


def results(items: Iterable[Mapping[str, Any]], empty: str = "", *, dated: bool = False) -> None:
    """Print results of checks: one line each; of those that did not pass what was expected, found, and some rows."""
    from tidegate.cli import out

    found = list(items)
    rows = [
        (
            out.words(f"  {item['check']}", "bold" if not item["passed"] else ""),
            outcome(item),
            out.words(item["dataset"] if not dated else item["task"], "dim"),
            out.words(item["message"], "" if item["passed"] else "red" if item["severity"] == "fail" else "yellow"),
            *((out.age(item["at"]),) if dated else ()),
        )
        for item in found
    ]
    columns = ("!  check", "!outcome", "task" if dated else "dataset", "found", *(("!when",) if dated else ()))
    out.show(out.table(columns, rows, empty))
    for item in found:
        if not item["passed"]:
            _explain(item)


def _explain(item: Mapping[str, Any]) -> None:
    from tidegate.cli import out

    pairs: list[tuple[str, object]] = [("expected", item["expected"]), ("found", item["actual"])]
    pairs += [
        ("rows" if n == 0 else "", encoder.dumps(row, ensure_ascii=False)[:300]) for n, row in enumerate(item["sample"])
    ]
    out.show(out.line(" ", out.words(item["check"], "bold")), out.facts([(name, said) for name, said in pairs if said]))


def outcome(item: Mapping[str, Any]) -> Any:
    """Return a result in one word, with its mark."""
    from tidegate.cli import out

    word = "passed" if item["passed"] else "warned" if item["severity"] == "warn" else "failed"
    return out.state(_OUTCOMES[word], word)


def word(value: str | None) -> Any:
    """Return what a list says of the freshness or the checks of a dataset, with its mark."""
    from tidegate.cli import out

    return out.words("–", "dim") if value is None else out.state({**_OUTCOMES, **_FRESH}[value], value)


def watched(client: Client, listed: Iterable[Mapping[str, Any]]) -> None:
    """Print the datasets that are watched by the clock: those that are not fresh, and those that nobody here writes."""
    from tidegate.cli import out

    items = client.get("freshness")["items"]
    known = {item["name"] for item in listed} | {item.get("dataset") for item in listed}
    shown = [item for item in items if item["state"] != "fresh" or item["dataset"] not in known]
    if not shown:
        return
    rows = [
        (
            out.words(f"  {item['dataset']}", "magenta"),
            word(item["state"]),
            out.age(item["updated_at"]) if item["updated_at"] else out.words("never updated", "dim"),
            item["error"] or item["reason"] or item["expected"],
        )
        for item in shown
    ]
    out.show(out.words("watched", "dim"), out.table(("!  dataset", "!state", "!updated", "why"), rows))


def _fresh_facts(fresh: Mapping[str, Any]) -> Any:
    from tidegate.cli import out

    return out.facts(
        (
            ("freshness", word(fresh["state"])),
            ("why", fresh["error"] or fresh["reason"] or None),
            ("expected", fresh["expected"]),
            ("updated", out.age(fresh["updated_at"]) if fresh["updated_at"] else None),
            ("stale", out.age(fresh["stale_since"]) if fresh["stale_since"] else None),
            ("looked at", out.age(fresh["checked_at"]) if fresh["checked_at"] else None),
        )
    )
