"""Parts of the console's pages: states, times, tables, trees. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tidegate.lineage_tree import Branch, checked
from tidegate.web.html import Html, tag, text
from tidegate.wording import ago, lasting

_TONES = {
    "succeeded": "ok",
    "healthy": "ok",
    "passed": "ok",
    "fresh": "ok",
    "stale": "bad",
    "unknown": "bad",
    "warned": "wait",
    "new": "wait",
    "fired": "ok",
    "failed": "bad",
    "unhealthy": "bad",
    "error": "bad",
    "dead": "bad",
    "upstream_failed": "bad",
    "running": "busy",
    "starting": "busy",
    "cancelling": "wait",
    "queued": "wait",
    "ready": "wait",
    "retry_wait": "wait",
    "paused": "wait",
    "standby": "wait",
    "held": "wait",
    "waiting": "wait",
    "buffered": "wait",
    "overdue": "bad",
}

_FIRST = {"fired": 0, "stored": 0, "error": 1, "filtered": 2}


def state(value: str, title: str = "") -> Html:
    """Show a state with its colour."""
    return tag("span", cls=f"state {_TONES.get(value, 'off')}", title=title or None)(value.replace("_", " "))


def when(moment: str | None, now: int) -> Html:
    """Show a moment as its age, the moment itself on hovering."""
    return tag("time", datetime=moment, title=moment)(ago(moment, now)) if moment else text("–")


def took(seconds: float | None) -> str:
    """Show a duration."""
    return "–" if seconds is None else lasting(seconds)


def table(head: Sequence[str], rows: Iterable[Sequence[Html | str]], empty: str) -> Html:
    """Build a card with a table, or with the sentence that says why there is none. Cells may be finished `td`s."""
    built = [
        tag("tr")(*(cell if cell.startswith("<td") and isinstance(cell, Html) else tag("td")(cell) for cell in row))
        for row in rows
    ]
    if not built:
        return tag("div", cls="card")(tag("div", cls="empty")(empty))
    return tag("div", cls="card")(
        tag("table")(tag("thead")(tag("tr")(*(tag("th")(name) for name in head))), tag("tbody")(*built))
    )


def number(value: object) -> Html:
    """Build a cell of a number."""
    return tag("td", cls="num")("–" if value is None else f"{value:,}" if isinstance(value, int) else value)


def tight(*children: object) -> Html:
    """Build a cell that does not wrap."""
    return tag("td", cls="tight")(*children)


def counts(found: Mapping[str, int]) -> Html:
    """Show exact counts by outcome."""
    if not found:
        return tag("span", cls="muted")("–")
    ordered = sorted(found.items(), key=lambda item: (_FIRST.get(item[0], 9), item[0]))
    shown = (tag("span")(tag("b", cls=_TONES.get(name))(f"{n:,}"), " ", name.replace("_", " ")) for name, n in ordered)
    return tag("span", cls="counts")(*shown)


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Build a card of named facts; absent ones are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("div", cls="card")(
        tag("dl", cls="facts")(*(Html(tag("dt")(name) + tag("dd")(value)) for name, value in shown))
    )


def run_link(uid: str, shown: str | None = None) -> Html:
    """Link to a run."""
    return tag("a", href=f"/console/runs/{uid}", cls="mono")(shown or uid)


def event_link(uid: str, shown: str | None = None) -> Html:
    """Link to an event."""
    return tag("a", href=f"/console/events/{uid}", cls=None if shown else "mono")(shown or uid)


def dataset_link(name: str) -> Html:
    """Link to a dataset."""
    return tag("a", href=f"/console/datasets/{quote(name, safe='')}")(name)


def tree(forest: Sequence[Branch], *, top: bool = True) -> Html:
    """Show a lineage as nested lists."""
    return tag("ul", cls="tree" if top else None)(*(_leaf(branch) for branch in forest))


def _leaf(branch: Branch) -> Html:
    node = branch.node
    kind, uid, label = node["kind"], node["uid"], node["label"]
    details: Mapping[str, Any] = node["details"]
    shown: Html = text(label)
    if not branch.root and kind == "run":
        shown = run_link(uid, label)
    elif not branch.root and kind == "event":
        shown = event_link(uid, label)
    name = tag("b")(shown) if branch.root else shown
    word = state(details["state"]) if kind in ("run", "task") and "state" in details else Html()
    written = branch.rows if branch.rows is not None else details.get("rows")
    rows = tag("span", cls="muted")(f"{written:,} rows") if written is not None else Html()
    found = checked(details) if kind == "run" else ""
    judged = tag("span", cls="error" if details.get("checks_failed") else "muted")(found) if found else Html()
    again = tag("span", cls="muted")("see above") if branch.again else Html()
    children = tree(branch.children, top=False) if branch.children else Html()
    return tag("li")(
        tag("span", cls="kind")(kind.replace("_", " ")), name, " ", word, " ", rows, judged, " ", again, children
    )
