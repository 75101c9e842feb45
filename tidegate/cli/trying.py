"""`tidegate try`: a sample event, judged by the configured triggers with the code that judges in the service."""

import json as encoder
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate.cli.errors import USAGE, fail

if TYPE_CHECKING:
    from config.model import ServiceConfig
    from sensors.event import Event
    from triggers.explain import Explanation

_TEXTS = ("id", "source", "type", "subject", "content_type")


def judge(config: "ServiceConfig", sensor: str, raw: bytes) -> "list[Explanation]":
    """Explain a sample event by every trigger that listens to its sensor and type."""
    from triggers.errors import RuleError
    from triggers.evaluator import RuleSet
    from triggers.explain import try_event

    concurrency = {name: pipeline.concurrency for name, pipeline in config.pipelines.items()}
    try:
        rules = RuleSet(config.triggers, config_hash=config.hash, concurrency=concurrency)
    except RuleError as error:
        fail(str(error))
    now = time.time_ns() // 1000
    return try_event(rules, sample_event(config, sensor, raw, now), now)


def sample_event(config: "ServiceConfig", sensor: str, raw: bytes, now: int) -> "Event":
    """Build the event: the file's envelope where it has one, the kind's sample where it has not."""
    from sensors.event import Event
    from sensors.uid import EVENT, new_uid
    from tidegate.wording import parse_moment

    entry = config.sensors.get(sensor)
    sample: dict[str, Any] = {} if entry is None else dict(entry.kind.emits.sample)
    given = _envelope(raw)
    values = {**sample, **given} if given is not None else {**sample, "data": None}
    data, content_type = _content(values) if given is not None else (raw, sample.get("content_type"))
    at = values.get("time")
    if isinstance(at, (datetime, str)):
        at = parse_moment(at if isinstance(at, str) else at.isoformat())
    return Event(
        sensor=sensor,
        id=_text(values, "id") or "sample",
        uid=new_uid(EVENT, now),
        source=_text(values, "source") or f"/{sensor}",
        type=_text(values, "type") or "sample",
        received_at=now,
        subject=_text(values, "subject"),
        time=at if isinstance(at, int) else None,
        data=data,
        content_type=content_type,
        attributes=_texts(values, "attributes"),
        match=_texts(values, "match"),
    )


def _envelope(raw: bytes) -> dict[str, Any] | None:
    """Return the file as an event, None when it is only content."""
    try:
        found = encoder.loads(raw)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(found, dict) and isinstance(found.get("type"), str) and ("data" in found or "id" in found)
    return found if is_event else None


def _content(values: dict[str, Any]) -> tuple[bytes | None, str | None]:
    data = values.get("data")
    said = values.get("content_type") or values.get("datacontenttype")
    content_type = said if isinstance(said, str) else None
    if data is None:
        return None, content_type
    if isinstance(data, str) and content_type is not None and not content_type.partition(";")[0].endswith("json"):
        return data.encode("utf-8", "surrogatepass"), content_type
    return encoder.dumps(data).encode(), content_type or "application/json"


def _text(values: dict[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        fail(f"the event's {name} is no text", USAGE)
    return value


def _texts(values: dict[str, Any], name: str) -> dict[str, str]:
    value = values.get(name) or {}
    if not isinstance(value, dict):
        fail(f"the event's {name} is no map", USAGE)
    return {str(key): part if isinstance(part, str) else encoder.dumps(part) for key, part in value.items()}


def show_judgement(found: "list[Explanation]", *, json: bool) -> bool:
    """Print what the triggers would decide; say whether a rule failed."""
    from tidegate.cli import out

    verdicts = [_verdict(explanation) for explanation in found]
    failed = any(verdict["outcome"] == "error" for verdict in verdicts)
    if json:
        out.as_json({"verdicts": verdicts})
        return failed
    if not verdicts:
        out.show(out.words("no trigger listens to such an event", "yellow"))
    from tidegate.cli.explaining import show_verdict

    for verdict in verdicts:
        show_verdict({**verdict, "basis": "tried", "item": None, "run": None})
        for run in verdict["runs"]:
            pairs = [("key", run["key"]), ("partition", run["partition"]), ("lane", run["lane"])]
            named = [out.line(out.words(name, "dim"), value) for name, value in pairs if value is not None]
            params = out.words(encoder.dumps(run["params"], ensure_ascii=False, default=str), "dim")
            out.show(out.line("    ⇒", out.words(run["pipeline"], "bold cyan"), *named, params))
    return failed


def _verdict(explanation: "Explanation") -> dict[str, Any]:
    from dataclasses import asdict

    from tidegate.api.views_explain import judged_clause

    clauses = [judged_clause(clause).model_dump(mode="json") for clause in explanation.clauses]
    return {**asdict(explanation), "clauses": clauses, "outcome": str(explanation.outcome or "filtered")}
