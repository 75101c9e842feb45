"""From replays to what the API answers, and from what is asked to what is kept. Pure."""

from collections.abc import Mapping
from typing import Any

from config.model import ServiceConfig
from tidegate.api.models_replays import (
    ReplayDetail,
    ReplayedRow,
    ReplayRow,
    ReplayView,
    SampleView,
    StartReplay,
    rate_of,
    sample_fields,
)
from tidegate.api.models_runs import micros
from tidegate.api.views import maybe, moment
from tidegate.rules import Rules
from tidegate.store.replay_records import Replay, ReplaySpec


class BadReplay(ValueError):
    """A replay that cannot be: `pointer` is the field that is wrong, the sentence says what would be right."""

    def __init__(self, pointer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.pointer = pointer


def spec_of(ask: StartReplay) -> ReplaySpec:
    """Return what is asked for, without the events that dead letters name. Raises BadReplay."""
    named = bool(ask.events) + bool(ask.dead_letters)
    ranged = ask.since is not None or ask.until is not None
    if named > 1:
        raise BadReplay("dead_letters", "name events or dead letters, not both")
    if named and ranged:
        raise BadReplay("since", "a time range goes with a trigger alone; what is named needs none")
    if not named and (ask.trigger is None or ask.since is None):
        raise BadReplay("events", "name events, dead letters, or a trigger with since")
    since, until = (None if at is None else micros(at) for at in (ask.since, ask.until))
    if since is not None and until is not None and since >= until:
        raise BadReplay("until", "until must be later than since")
    if ask.dead_letters and ask.as_was:
        raise BadReplay("as_was", "what is in the dead letters was judged by no rule; replay it by today's")
    return ReplaySpec(
        events=tuple(dict.fromkeys(ask.events)),
        trigger=ask.trigger,
        since=since,
        until=until,
        partition=ask.partition,
        pipeline=ask.pipeline,
        as_was=ask.as_was,
        rate=None if ask.rate is None else rate_of(ask.rate),
        dry_run=ask.dry_run,
    )


def check_spec(spec: ReplaySpec, config: ServiceConfig, rules: Rules) -> None:
    """Refuse what today's configuration cannot do. Raises BadReplay."""
    if spec.pipeline is not None and spec.pipeline not in rules.pipelines:
        raise BadReplay("pipeline", "there is no pipeline of that name")
    if spec.trigger is None or spec.as_was:  # as it was, a trigger need not be configured any more
        return
    trigger = config.triggers.get(spec.trigger)
    if trigger is None:
        raise BadReplay("trigger", "there is no trigger of that name; as_was repeats what one fired that is gone")
    if not trigger.enabled:
        raise BadReplay("trigger", "the trigger is disabled in the configuration")
    if trigger.pattern is not None or (trigger.control is not None and trigger.control.gather is not None):
        raise BadReplay(
            "trigger",
            "the trigger waits for several events, one alone decides nothing: as_was repeats what it fired, as a whole",
        )


def replay_row(replay: Replay, rules: Rules) -> ReplayRow:
    """Show a replay."""
    return ReplayRow(**_fields(replay, rules))


def replay_detail(replay: Replay, rules: Rules) -> ReplayDetail:
    """Show a replay with its samples."""
    samples = [SampleView(**sample_fields(sample)) for sample in replay.samples]
    return ReplayDetail(**_fields(replay, rules), samples=samples)


def _fields(replay: Replay, rules: Rules) -> dict[str, Any]:
    spec = replay.spec
    reason = replay.reason
    if not reason and not replay.state.final and spec.trigger in rules.paused:
        reason = f"waits: trigger {spec.trigger} is paused"
    return {
        "uid": replay.uid,
        "request_id": replay.request_id,
        "state": replay.state,
        "asked": ReplayView(
            events=[] if spec.letters else list(spec.events),
            dead_letters=list(spec.letters),
            trigger=spec.trigger,
            since=maybe(spec.since),
            until=maybe(spec.until),
            partition=spec.partition,
            pipeline=spec.pipeline,
            as_was=spec.as_was,
            rate=spec.rate,
            dry_run=spec.dry_run,
        ),
        "counts": dict(replay.counts),
        "created_at": moment(replay.created_at),
        "finished_at": maybe(replay.finished_at),
        "reason": reason,
    }


def replayed_row(row: Mapping[str, Any]) -> ReplayedRow:
    """Show a run of a replay."""
    shown = {name: row[name] for name in ReplayedRow.model_fields}
    return ReplayedRow(**{**shown, "item": None if row["item"] < 0 else row["item"]})
