"""The console's pages, from what the API answers. Pure: models in, markup out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.api.models import EventDetail, EventRow, SensorRow, TriggerRow
from tidegate.api.models_alerts import AlertView
from tidegate.api.models_checks import FreshnessView
from tidegate.api.models_explain import Explanation
from tidegate.api.models_replays import ReplayRow
from tidegate.api.models_runs import Lineage, LogPage, RunDetail, RunRow
from tidegate.lineage_tree import grow
from tidegate.web.data_pages import checks_part, watched_part
from tidegate.web.html import Html, tag, text
from tidegate.web.parts import counts, event_link, facts, number, run_link, state, table, tight, took, tree, when
from tidegate.web.why import why
from tidegate.wording import sized

_SHORT = 200


def overview(
    sensors: Sequence[SensorRow],
    triggers: Sequence[TriggerRow],
    runs: Sequence[tuple[RunRow, EventRow | None]],
    dead_letters: bool,
    now: int,
    alerts: Sequence[AlertView] = (),
    watched: Sequence[FreshnessView] = (),
    replays: Sequence[ReplayRow] = (),
) -> Html:
    """Build the first page: sensors, triggers, recent runs with their cause, replays, and what people were told."""
    return tag("div")(
        tag("h2")("Sensors"),
        table(
            ("Sensor", "Kind", "Health", "Last success", "Seen"),
            [
                (
                    tight(tag("b")(sensor.name)),
                    tight(sensor.kind, " ", tag("span", cls="muted mono")(sensor.path or "")),
                    tag("td")(state(sensor.health.state), " ", tag("span", cls="muted")(_short(sensor.health.reason))),
                    tight(when(sensor.health.last_success, now)),
                    counts(sensor.counts),
                )
                for sensor in sensors
            ],
            "No sensor is configured.",
        ),
        tag("h2")("Triggers"),
        table(
            ("Trigger", "Listens to", "Starts", "Decisions"),
            [
                (
                    tight(tag("b")(trigger.name), " ", _flag(trigger)),
                    ", ".join(dict.fromkeys(source.sensor for source in trigger.on)),
                    ", ".join(dict.fromkeys(run.pipeline for run in trigger.runs)),
                    counts(trigger.counts),
                )
                for trigger in triggers
            ],
            "No trigger is configured.",
        ),
        tag("h2")("Recent runs"),
        table(
            ("Run", "Pipeline", "State", "Caused by", "Created", "Took"),
            [
                (
                    tight(run_link(run.uid)),
                    _pipeline(run),
                    tag("td", cls="tight")(state(run.state, run.error or "")),
                    _cause(run, event),
                    tight(when(run.created_at, now)),
                    number(took(run.duration)),
                )
                for run, event in runs
            ],
            "No run yet. An event that matches a trigger starts one.",
        ),
        tag("p", cls="error")("There are dead letters: ", tag("code")("tidegate dead-letters"), " shows them.")
        if dead_letters
        else Html(),
        watched_part(watched, now) if watched else Html(),
        _replays(replays, now) if replays else Html(),
        _alerts(alerts, now) if alerts else Html(),
    )


def _why(error: str | None, *, left_out: bool) -> Html:
    """Say why a task did not do its work: what was left out on purpose is no error."""
    if not error:
        return text("")
    return tag("span", cls="muted" if left_out else "error")(_short(error))


def _pipeline(run: RunRow) -> Html:
    """Name what runs, and the partition that it makes."""
    if run.partition is None:
        return text(run.pipeline)
    return Html(text(run.pipeline) + " " + tag("span", cls="muted mono")(run.partition))


def _replays(replays: Sequence[ReplayRow], now: int) -> Html:
    return tag("div")(
        tag("h2")("Replays"),
        table(
            ("Replay", "State", "Came to", "Why", "Asked"),
            [
                (
                    tight(tag("span", cls="mono")(replay.uid)),
                    tag("td", cls="tight")(state(replay.state), " (dry run)" if replay.asked.dry_run else ""),
                    counts(replay.counts),
                    text(_short(replay.reason)),
                    tight(when(replay.created_at, now)),
                )
                for replay in replays
            ],
            "",
        ),
    )


def _alerts(alerts: Sequence[AlertView], now: int) -> Html:
    return tag("div")(
        tag("h2")("Alerts"),
        table(
            ("Route", "What", "About", "State", "Why", "When"),
            [
                (
                    tight(tag("b")(alert.route)),
                    tight(alert.kind.replace("_", " "), " ended" if alert.ends else ""),
                    text(alert.subject),
                    tag("td", cls="tight")(state(alert.state, _met(alert))),
                    text(_short(alert.text)),
                    tight(when(alert.at, now)),
                )
                for alert in alerts
            ],
            "",
        ),
    )


def _met(alert: AlertView) -> str:
    errors = [f"{one.target}: {one.error}" for one in alert.deliveries if one.error]
    return alert.reason or "; ".join(errors)


def _flag(trigger: TriggerRow) -> Html:
    if not trigger.enabled:
        return state("disabled")
    return state("paused", trigger.paused) if trigger.paused else Html()


def _cause(run: RunRow, event: EventRow | None) -> Html:
    if event is not None:
        return event_link(event.uid, _named(event))
    if run.trigger is not None:
        return text(run.trigger)
    return tag("span", cls="muted")("by hand")


def _named(event: EventRow) -> str:
    return _short(f"{event.sensor} · {event.subject or event.type}", 80)


def run_page(run: RunDetail, logs: LogPage, lineage: Lineage | None, now: int) -> Html:
    """Build the page of a run: facts, tasks, lineage, log."""
    return tag("div")(
        tag("h1")(run.pipeline, " ", state(run.state)),
        facts(
            (
                ("Run", tag("span", cls="mono")(run.uid)),
                ("Error", tag("span", cls="error")(run.error) if run.error else None),
                ("Cancelled", run.cancel_reason),
                ("Caused by", _causes(run)),
                ("Trigger", run.trigger or "started by hand"),
                ("Key", tag("span", cls="mono")(f"{run.key} · generation {run.generation}")),
                ("Partition", run.partition),
                ("Lane", run.lane),
                ("Created", when(run.created_at, now)),
                ("Started", when(run.started_at, now) if run.started_at else None),
                ("Took", took(run.duration) if run.duration is not None else None),
                ("Resumed from", run_link(run.resumed_from) if run.resumed_from else None),
                ("Replay", tag("span", cls="mono")(run.replay) if run.replay else None),
                ("Replay of", run_link(run.replayed_from) if run.replayed_from else None),
                ("Trace", tag("span", cls="mono")(run.trace_id) if run.trace_id else None),
                ("Parameters", tag("code")(_json(run.params)) if run.params else None),
            )
        ),
        tag("h2")("Tasks"),
        table(
            ("Task", "State", "Engine", "Needs", "Attempt", "Took", "Peak memory", ""),
            [
                (
                    tight(tag("b")(task.task), f" [{task.partition}]" if task.partition else ""),
                    tag("td", cls="tight")(state(task.state)),
                    text(task.engine),
                    text(", ".join(task.needs)),
                    number(task.attempt),
                    number(took(task.duration)),
                    number(sized(task.peak_rss_bytes)),
                    _why(task.error, left_out=task.state == "skipped"),
                )
                for task in run.tasks
            ],
            "This run has no tasks.",
        ),
        checks_part(run.checks, now) if run.checks else Html(),
        tag("h2")("Lineage"),
        tag("div", cls="card")(_tree(lineage)),
        tag("h2")("Log"),
        _log(logs),
    )


def _causes(run: RunDetail) -> Html | None:
    if not run.events:
        return None
    shown = [Html(event_link(event.uid, _named(event)) + " ") for event in run.events[:10]]
    more = run.event_count - len(shown)
    return Html("".join(shown) + (text(f"and {more:,} more") if more > 0 else ""))


def _tree(lineage: Lineage | None) -> Html:
    if lineage is None:
        return tag("div", cls="empty")("Nothing is known.")
    nodes = [node.model_dump() for node in lineage.nodes]
    edges = [edge.model_dump(by_alias=True) for edge in lineage.edges]
    return tree(grow(lineage.root, nodes, edges))


def _log(logs: LogPage) -> Html:
    if not logs.lines:
        return tag("div", cls="card")(tag("div", cls="empty")("No line was logged."))
    lines = [
        Html(
            tag("span", cls="at")(f"{line.at[11:23]} {line.task} ")
            + tag("span", cls="stderr" if line.stream == "stderr" else None)(line.text)
            + "\n"
        )
        for line in logs.lines
    ]
    return tag("div", cls="card")(tag("pre")(*lines))


def event_page(event: EventDetail, explanation: Explanation, lineage: Lineage | None, now: int) -> Html:
    """Build the page of an event: facts, why it fired or did not, lineage, content."""
    attributes: Mapping[str, Any] = {**event.match, **event.attributes}
    return tag("div")(
        tag("h1")(event.type, " ", tag("small")(event.subject or "")),
        facts(
            (
                ("Event", tag("span", cls="mono")(event.uid)),
                ("State", state(event.state) if event.state != "stored" else None),
                ("Sensor", event.sensor),
                ("Id", tag("span", cls="mono")(event.id)),
                ("Source", event.source),
                ("Received", when(event.received_at, now)),
                ("Time", when(event.time, now) if event.time else None),
                ("Told by run", run_link(event.cause_run) if event.cause_run else None),
                ("Trace", tag("span", cls="mono")(event.trace_id) if event.trace_id else None),
                ("Attributes", tag("code")(_json(attributes)) if attributes else None),
            )
        ),
        tag("h2")("Why it fired, or did not"),
        why(explanation, now),
        tag("h2")("Lineage"),
        tag("div", cls="card")(_tree(lineage)),
        tag("h2")(f"Content, {sized(event.size)} {event.content_type or ''}"),
        tag("div", cls="card")(tag("pre")(_short(_json(event.data, indent=2), 20_000))),
    )


def login_page(refused: bool) -> Html:
    """Build the form that asks for a token."""
    return tag("form", cls="login card", method="post", action="/console/login")(
        tag("h1")("Tidegate"),
        tag("label", **{"for": "token"})("A token; `tidegate tokens add` makes one."),
        tag("input", id="token", name="token", type="password", autocomplete="off", autofocus=True, required=True)(),
        tag("p", cls="error")("That token opens nothing.") if refused else Html(),
        tag("button")("Open"),
    )


def message_page(title: str, detail: str) -> Html:
    """Build a page that says one thing."""
    return tag("div")(tag("h1")(title), tag("p", cls="muted")(detail), tag("p")(tag("a", href="/")("Overview")))


def _short(words: str, limit: int = _SHORT) -> str:
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def _json(value: object, indent: int | None = None) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent, default=str)
