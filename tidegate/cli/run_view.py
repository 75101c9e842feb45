"""A run as a person reads it: what it is and why, its tasks, what came of it."""

from typing import Any

from tidegate.cli import out
from tidegate.cli.checks import results
from tidegate.cli.lineage import trees
from tidegate.wording import lasting, sized

_EVENTS = 5


def show(run: dict[str, Any], lineage: dict[str, Any]) -> None:
    """Print a run with its lineage."""
    took = f"in {lasting(run['duration'])}" if run["duration"] is not None else None
    out.show(
        out.line(
            out.words(run["uid"], "bold"),
            out.words(run["pipeline"], "bold cyan"),
            out.state(run["state"]),
            took,
            out.age(run["created_at"]),
        ),
        out.facts(
            (
                ("error", out.words(run["error"] or "", "red")),
                ("cancelled", run["cancel_reason"]),
                *_causes(run),
                ("trigger", run["trigger"] or "started by hand"),
                ("key", f"{run['key']}, generation {run['generation']}"),
                ("partition", run["partition"]),
                ("lane", run["lane"]),
                ("resumed", run["resumed_from"]),
                ("trace", run["trace_id"]),
                *_params(run["params"]),
            )
        ),
    )
    if run["tasks"]:
        out.show(out.words("tasks", "dim"), tasks(run["tasks"]))
        for task in run["tasks"]:
            if task["error"]:
                out.show(out.line(" ", out.state("failed", task["task"]), out.words(task["error"], "red")))
    if run["checks"]:
        out.show(out.words("checks", "dim"))
        results(run["checks"])
    out.show(out.words("lineage", "dim"), *trees(lineage))


def _causes(run: dict[str, Any]) -> list[tuple[str, object]]:
    events = run["events"][:_EVENTS]
    rows: list[tuple[str, object]] = [
        (
            "caused by" if index == 0 else "",
            out.line(
                out.words(event["uid"], "bold"),
                out.words(event["sensor"], "cyan"),
                event["type"],
                out.words(event["subject"] or "", "italic"),
                out.age(event["received_at"]),
            ),
        )
        for index, event in enumerate(events)
    ]
    if run["event_count"] > len(events):
        rows.append(("", out.words(f"and {run['event_count'] - len(events):,} more", "dim")))
    return rows


def _params(params: dict[str, Any]) -> list[tuple[str, object]]:
    import json

    shown = [
        f"{name} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in params.items()
    ]
    return [
        ("params" if index == 0 else "", text if len(text) <= 300 else f"{text[:299]}…")
        for index, text in enumerate(shown)
    ]


def tasks(found: list[dict[str, Any]]) -> Any:
    """Return a table of tasks, or of their slices."""
    rows = [
        (
            out.words(f"  {task['task']}" + (f" [{task['partition']}]" if task["partition"] else "")),
            out.state(task["state"]),
            out.words(task["engine"], "dim"),
            out.words(", ".join(task["needs"]), "dim"),
            out.counts(task["slices"], ("succeeded", "failed", "running")) if task["slices"] else "",
            out.words(_attempts(task), "yellow" if task["failures"] or task["lost"] else "dim"),
            out.took(task["duration"]),
            sized(task["peak_rss_bytes"]) if task["peak_rss_bytes"] is not None else "",
        )
        for task in found
    ]
    columns = ["!  task", "!state", "engine", "needs", "partitions", ">attempt", ">took", ">memory"]
    may_lack = ("needs", "partitions", ">memory")
    keep = [i for i, name in enumerate(columns) if name not in may_lack or any(str(row[i]) for row in rows)]
    return out.table([columns[i] for i in keep], [[row[i] for i in keep] for row in rows])


def _attempts(task: dict[str, Any]) -> str:
    lost = f" ({task['lost']} lost)" if task["lost"] else ""
    return f"{task['attempt']}{lost}"
