"""`tidegate try`: sample events, judged by the configured triggers with the code that judges in the service.

In flow events with the moments at which they come; out flow, event by event, what every trigger that listens makes of
it with all its clauses, and what time brings about in between. What one event leaves behind (a join that waits, a key
that was used) the next one finds.
"""

import json as encoder
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.cli.errors import USAGE, fail

if TYPE_CHECKING:
    from config.model import ServiceConfig
    from sensors.event import Event
    from triggers.bench import Verdict
    from triggers.evaluator import RuleSet
    from triggers.explain import Explanation


@dataclass(frozen=True, slots=True)
class Step:
    """One event (None: time that passed), when it came, and what was made of it."""

    event: "Event | None"
    at: int
    verdicts: Sequence[dict[str, Any]]


def gather(
    config: "ServiceConfig", files: Sequence[str], sensor: str | None, *, sample: bool, now: str | None
) -> "list[Event]":
    """Return the events that files hold, or samples of the sensor's kind. Ends the command when they are none."""
    from config.samples import BadSample, make_event, read_events, read_moment, sensors_known

    samples = {name: entry.kind.emits.sample for name, entry in config.sensors.items()}
    found: list[Event] = []
    try:
        at = time.time_ns() // 1000
        at = read_moment(now, at) if now is not None else at
        if sample:
            if sensor is None:
                raise BadSample("--sample needs --sensor: its kind has the sample")
            sensors_known(list(config.sensors), [made := make_event({}, sensor, samples, at)])
            found.append(made)
        for given in files:
            named, path = _named(given, config)
            found += read_events(_read(path), named or sensor, samples, found[-1].received_at if found else at)
        if not found:
            raise BadSample("name a file by --event, or say --sample")
        sensors_known(list(config.sensors), found)
    except BadSample as error:
        fail(str(error), USAGE)
    return found


def judge(config: "ServiceConfig", events: "Sequence[Event]", until: str | None) -> list[Step]:
    """Let the events come, in their order, and time pass up to a moment after the last of them."""
    from config.samples import BadSample, read_moment
    from triggers.bench import Bench
    from triggers.errors import RuleError
    from triggers.evaluator import RuleSet

    concurrency = {name: pipeline.concurrency for name, pipeline in config.pipelines.items()}
    try:
        rules = RuleSet(config.triggers, config_hash=config.hash, concurrency=concurrency)
        end = None if until is None else read_moment(until, events[-1].received_at)
    except RuleError as error:
        fail(str(error))
    except BadSample as error:
        fail(str(error), USAGE)
    bench = Bench(rules)
    steps: list[Step] = []
    for event in sorted(events, key=lambda event: event.received_at):
        at = event.received_at
        steps += _passed(bench.pass_time(at))
        steps.append(Step(event, at, _verdicts(rules, event, bench.judge(event, at))))
    if end is not None:
        steps += _passed(bench.pass_time(end))
    return steps


def _named(given: str, config: "ServiceConfig") -> tuple[str | None, str]:
    """Read `SENSOR=FILE`, or only a file."""
    name, equals, path = given.partition("=")
    return (name, path) if equals and name in config.sensors else (None, given)


def _read(path: str) -> bytes:
    import sys

    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}", USAGE)


def _passed(verdicts: "Sequence[Verdict]") -> list[Step]:
    """Return what time brought about, moment by moment."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for verdict in verdicts:
        steps.setdefault(verdict.event.received_at, []).append(_of_time(verdict))
    return [Step(None, at, found) for at, found in steps.items()]


def _verdicts(rules: "RuleSet", event: "Event", decided: "Sequence[Verdict]") -> list[dict[str, Any]]:
    """Return what the triggers that listen make of an event: its clauses, and what it came to with all before it."""
    from triggers.explain import try_event

    found = []
    for explanation in try_event(rules, event, event.received_at):
        mine = [verdict for verdict in decided if verdict.trigger == explanation.trigger]
        found.append(_verdict(explanation, mine))
    return found


def _verdict(explanation: "Explanation", decided: "Sequence[Verdict]") -> dict[str, Any]:
    from tidegate.api.views_explain import judged_clause

    clauses = [judged_clause(clause).model_dump(mode="json") for clause in explanation.clauses]
    outcome = str(explanation.outcome or "filtered")
    shown = {**asdict(explanation), "clauses": clauses, "outcome": outcome, "missing": []}
    last = decided[-1] if decided else None
    if last is not None and (last.outcome.value != shown["outcome"] or last.outcome.open):
        shown |= {"outcome": last.outcome.value, "reason": last.reason, "missing": list(last.missing)}
        if last.outcome.value in ("fired", "overdue"):
            shown["runs"] = [_run(verdict) for verdict in decided if verdict.pipeline is not None]
        elif shown["runs"]:
            shown["runs"] = []
    return shown


def _of_time(verdict: "Verdict") -> dict[str, Any]:
    return {
        "trigger": verdict.trigger,
        "version": "",
        "event": None,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "clauses": [],
        "missing": list(verdict.missing),
        "runs": [_run(verdict)] if verdict.pipeline is not None else [],
    }


def _run(verdict: "Verdict") -> dict[str, Any]:
    return {
        "pipeline": verdict.pipeline,
        "item": verdict.item,
        "params": dict(verdict.params),
        "key": verdict.key if verdict.key is None or not verdict.key.startswith("trg_") else None,
        "partition": verdict.partition,
        "lane": verdict.lane,
    }


def show_judgement(steps: Sequence[Step], *, json: bool) -> bool:
    """Print what the triggers would decide; say whether a rule failed."""
    from tidegate.cli import out
    from tidegate.event_view import rfc3339

    verdicts = [verdict for step in steps for verdict in step.verdicts]
    failed = any(verdict["outcome"] == "error" for verdict in verdicts)
    if json:
        out.as_json({"verdicts": verdicts, "steps": [_step(step) for step in steps]})
        return failed
    several = len(steps) > 1
    for step in steps:
        if several:
            event = step.event
            words = ("time passes",) if event is None else (event.sensor, event.type, event.subject)
            out.show(out.line(out.words(rfc3339(step.at), "dim"), *words))
        if not step.verdicts:
            out.show(out.words("no trigger listens to such an event", "yellow"))
        for verdict in step.verdicts:
            _show(verdict)
    return failed


def _step(step: Step) -> dict[str, Any]:
    from tidegate.event_view import event_view, rfc3339

    event = None if step.event is None else event_view(step.event)
    return {"at": rfc3339(step.at), "event": event, "verdicts": list(step.verdicts)}


def _show(verdict: dict[str, Any]) -> None:
    from tidegate.cli import out
    from tidegate.cli.explaining import show_verdict

    show_verdict({**verdict, "basis": "tried", "item": None, "run": None})
    for run in verdict["runs"]:
        pairs = [("key", run["key"]), ("partition", run["partition"]), ("lane", run["lane"])]
        named = [out.line(out.words(name, "dim"), value) for name, value in pairs if value is not None]
        params = out.words(encoder.dumps(run["params"], ensure_ascii=False, default=str), "dim")
        out.show(out.line("    ⇒", out.words(run["pipeline"], "bold cyan"), *named, params))
