"""The section `triggers`: YAML becomes Trigger values; `triggers.evaluator` checks their expressions and filters."""

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, Field

from config.flow_control import KEYS as FLOW
from config.flow_control import (
    ActiveOptions,
    BatchOptions,
    DebounceOptions,
    SampleOptions,
    ThrottleOptions,
    control_of,
)
from config.partitions import partitions_as_lanes
from config.patterns import (
    KEYS,
    AbsentOptions,
    CountOptions,
    Expression,
    JoinOptions,
    OverdueOptions,
    RunOptions,
    SequenceOptions,
    SourceOptions,
    one_or_many,
    pattern_of,
    source_of,
)
from config.problems import Path, known_names, steps
from config.reading import Reading, shown
from config.sensors_section import check_name, sentence
from config.service_section import Options, not_available
from config.yaml import Items, Node, Scalar, Table
from triggers.errors import RuleError
from triggers.pattern import parts_of
from triggers.trigger import Paused, Repeat, RunRule, Trigger, WhenBusy

LATER: Final = frozenset({"window", "by_time"})
_ON: Final = "`{sensor: NAME}` or `{cron: TIME}`, or a list of such"
_BESIDE: Final = {"when": "give each part its own `when`", "each": "take it out: a pattern is fulfilled as a whole"}


class TriggerOptions(Options):
    """One entry of `triggers`: `on`, or one of `join`, `sequence`, `count`, `absent`; and what to run.

    `missing_field: false` lets a missing field be false instead of an error.
    """

    on: Annotated[tuple[SourceOptions, ...], BeforeValidator(one_or_many)] = Field(
        default=(), min_length=1, description=_ON
    )
    join: JoinOptions | None = None
    sequence: SequenceOptions | None = None
    count: CountOptions | None = None
    absent: AbsentOptions | None = None
    overdue: OverdueOptions | None = None
    sample: SampleOptions | None = None
    throttle: ThrottleOptions | None = None
    active: ActiveOptions | None = None
    batch: BatchOptions | None = None
    debounce: DebounceOptions | None = None
    run: Annotated[tuple[RunOptions, ...], BeforeValidator(one_or_many)] = Field(
        min_length=1, description="`{pipeline: NAME}`, or a list of such"
    )
    when: Expression | None = None
    each: Expression | None = None
    repeat: Repeat = Repeat.RETRY_FAILED
    when_busy: WhenBusy = WhenBusy.QUEUE
    busy: Literal["lane", "partition"] = "lane"
    missing_field: Literal[False, "error"] = "error"
    enabled: bool = True
    paused: Paused | None = None


def read_triggers(
    reading: Reading, sensors: Mapping[str, Sequence[str] | None], pipelines: Mapping[str, Sequence[str] | None]
) -> dict[str, Trigger]:
    """Return the triggers that can be used.

    `sensors` maps names to the types that they emit, `pipelines` names to their parameters; None: not known.
    """
    triggers: dict[str, Trigger] = {}
    by_partition: set[str] = set()
    for name, node in reading.table(("triggers",)).items():
        path: Path = ("triggers", name)
        check_name(reading, path, "trigger")
        if not isinstance(node, Table):
            reading.problem(path, f"{shown(node)} is not a map", "write `{on: {sensor: NAME}, run: {pipeline: NAME}}`")
            continue
        options = _validated(reading, path, node)
        _check_names(reading, path, node, sensors, pipelines)
        if options is not None:
            triggers[name] = _trigger(name, options, node)
            if options.busy == "partition" and _has_partitions(reading, path, options):
                by_partition.add(name)
    triggers = partitions_as_lanes(triggers, frozenset(by_partition))
    _check_rules(reading, triggers, sensors, pipelines)
    return triggers


def canonical(node: Node, own: int) -> Any:
    """Return a node as plain data as it was written: references stay references, so no secret's value is in it.

    `x-…` keys are the writer's own in the outer `own` levels of maps; further in they are options like any other.
    """
    if isinstance(node, Table):
        kept = ((key, entry.node) for key, entry in node.entries.items() if not (own > 0 and key.startswith("x-")))
        return {key: canonical(item, own - 1) for key, item in kept}
    if isinstance(node, Items):
        return [canonical(item, own - 1) for item in node.items]
    return node.value if isinstance(node.value, str | bool | None) else node.text


def digest(value: Any, length: int) -> str:
    """Return the first `length` hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:length]


def _validated(reading: Reading, path: Path, node: Table) -> TriggerOptions | None:
    later = [key for key in node.entries if key in LATER]
    for key in later:
        reading.problem((*path, key), *not_available(key), key=True)
    on = node.entries.get("on")
    if on is not None:
        for place, entry in _listed(on.node, (*path, "on")):
            crons = [key for key in entry.entries if key in LATER]
            later += crons
            for key in crons:
                reading.problem((*place, key), *not_available(key), key=True)
    if later or not _one_of(reading, path, node):
        return None
    return reading.validate(TriggerOptions, path, node, template=True)


def _one_of(reading: Reading, path: Path, node: Table) -> bool:
    """Check that a trigger says once what it waits for, and nothing that does not go with it."""
    given = [key for key in ("on", *KEYS) if key in node.entries]
    if not given:
        reading.problem((*path, "on"), "`on` is missing", f"add `on:` {_ON}; or one of {', '.join(KEYS)}")
        return False
    before = len(reading.report)
    for other in given[1:]:
        reading.problem((*path, other), f"`{other}` beside `{given[0]}`", "a trigger waits for one thing", key=True)
    if given[0] != "on":
        for key, remedy in _BESIDE.items():
            if key in node.entries:
                reading.problem((*path, key), f"`{key}` beside `{given[0]}`", remedy, key=True)
        for key in FLOW:
            if key in node.entries:
                remedy = "take it out, or let another trigger gather the events"
                reading.problem((*path, key), f"`{key}` beside `{given[0]}`", remedy, key=True)
    if "batch" in node.entries and "debounce" in node.entries:
        remedy = "take one out: a batch ends by size or time, a debounce when it is quiet"
        reading.problem((*path, "debounce"), "`debounce` beside `batch`", remedy, key=True)
    if "overdue" in node.entries and given[0] not in ("join", "sequence"):
        remedy = "take it out: only keys of a join or sequence are overdue"
        reading.problem((*path, "overdue"), f"`overdue` beside `{given[0]}`", remedy, key=True)
    return len(reading.report) == before


def _has_partitions(reading: Reading, path: Path, options: TriggerOptions) -> bool:
    """Check that `busy: partition` has partitions to go by, and nothing else that says which runs go one at a time."""
    runs = (*options.run, *(options.overdue.run if options.overdue is not None else ()))
    if any(run.lane is not None for run in runs):
        remedy = "take out one of them: with `busy: partition` the partition is the lane"
        reading.problem((*path, "busy"), "`busy: partition` beside a `lane`", remedy, key=True)
        return False
    if not any(run.partition is not None for run in runs):
        remedy = "say which: run: {partition: event.match.day}"
        reading.problem((*path, "busy"), "`busy: partition`, and no run has a `partition`", remedy, key=True)
        return False
    return True


def _listed(node: Node, path: Path) -> list[tuple[Path, Table]]:
    """Return the maps of a value that is one map or a list of maps, with their places."""
    if isinstance(node, Items):
        return [((*path, index), item) for index, item in enumerate(node.items) if isinstance(item, Table)]
    return [(path, node)] if isinstance(node, Table) else []


def _check_names(
    reading: Reading, path: Path, node: Table, sensors: Mapping[str, Any], pipelines: Mapping[str, Any]
) -> None:
    """Report sensors and pipelines that do not exist."""
    places: list[tuple[str, Mapping[str, Any], list[tuple[Path, Table]]]] = [
        ("sensor", sensors, _sources(node, path)),
        ("pipeline", pipelines, [*_at(node, path, "run"), *_at(node, path, "overdue", "run")]),
    ]
    for what, known, tables in places:
        for place, table in tables:
            named = table.entries.get(what)
            if named is not None and isinstance(named.node, Scalar) and named.node.text not in known:
                message = f"there is no {what} `{named.node.text}`"
                reading.problem((*place, what), message, known_names(named.node.text, known))


def _sources(node: Table, path: Path) -> list[tuple[Path, Table]]:
    """Return every map that names a sensor, with its place."""
    found = [*_at(node, path, "on"), *_at(node, path, "count"), *_at(node, path, "absent")]
    found += _at(node, path, "absent", "after")
    for key in ("join", "sequence"):
        for place, parts in _at(node, path, key, "of"):
            for name in parts.entries:
                found += _at(parts, place, name)
    return found


def _at(node: Table, path: Path, *steps: str) -> list[tuple[Path, Table]]:
    """Return the maps at a place below a map, empty when there are none."""
    found = [(path, node)]
    for step in steps:
        entries = [(place, table.entries.get(step)) for place, table in found]
        found = [pair for place, entry in entries if entry for pair in _listed(entry.node, (*place, step))]
    return found


def _trigger(name: str, options: TriggerOptions, node: Table) -> Trigger:
    pattern = pattern_of(options.join, options.sequence, options.count, options.absent, options.overdue)
    sources = (
        [source_of(source) for source in options.on] if pattern is None else [part.source for part in parts_of(pattern)]
    )
    overdue = options.overdue.run if options.overdue is not None else ()
    return Trigger(
        name=name,
        on=tuple(sources),
        pattern=pattern,
        control=control_of(options.sample, options.throttle, options.active, options.batch, options.debounce),
        overdue_runs=tuple(RunRule(**_fields(run)) for run in overdue),
        runs=tuple(RunRule(**_fields(run)) for run in options.run),
        when=options.when,
        each=options.each,
        repeat=options.repeat,
        when_busy=options.when_busy,
        missing_field_is_error=options.missing_field == "error",
        enabled=options.enabled,
        paused=options.paused,
        version=digest(canonical(node, 1), 16),
        refers=_refers(canonical(node, 1)),
    )


def _refers(value: Any) -> bool:
    """Say whether a rule refers to the environment or to files anywhere but in parameters."""
    if isinstance(value, dict):
        return any(_refers(inner) for key, inner in value.items() if key != "params")
    if isinstance(value, list):
        return any(_refers(inner) for inner in value)
    return isinstance(value, str) and ("${env:" in value or "${file:" in value)


def _fields(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _check_rules(
    reading: Reading,
    triggers: Mapping[str, Trigger],
    sensors: Mapping[str, Sequence[str] | None],
    pipelines: Mapping[str, Sequence[str] | None],
) -> None:
    """Let the evaluator compile every rule, and place its findings; what was reported already is not repeated."""
    from triggers.evaluator import RuleSet

    errors = RuleSet.check(triggers, sensors, pipelines)
    known = {(error.trigger, error.path) for error in errors}
    for error in errors:
        _report(reading, error, sensors, pipelines, known)


def _report(
    reading: Reading,
    error: RuleError,
    sensors: Mapping[str, Any],
    pipelines: Mapping[str, Any],
    known: AbstractSet[tuple[str, str]],
) -> None:
    path = _placed(reading.root, ("triggers", error.trigger, *steps(error.path)))
    node = reading.node(path)
    if node is None and path[-1] == "lane":  # with `busy: partition`: the partition, which may be refused for itself
        if (error.trigger, f"{error.path.removesuffix('lane')}partition") not in known:
            remedy = "name a field of the event, or take `busy: partition` out"
            reading.problem((*path[:-1], "partition"), sentence(error).replace("lane", "partition"), remedy)
        return
    if isinstance(node, Scalar) and (
        (path[-1] == "sensor" and node.text not in sensors) or (path[-1] == "pipeline" and node.text not in pipelines)
    ):
        return
    reading.problem(path, sentence(error), error.hint)


def _placed(root: Table, path: Path) -> Path:
    """Return the path as the file has it.

    A list of one may be written as a map or the other way round, `types` may be written `type`, and a key of the file
    may have dots in it. Steps that are not there end the search: the rest names what is missing.
    """
    place: Path = ()
    node: Node = root
    rest = path
    while rest:
        step = rest[0]
        if isinstance(node, Items):
            index = step if isinstance(step, int) else 0
            rest = rest[1:] if isinstance(step, int) else rest
            if index >= len(node.items):
                return place
            place, node = (*place, index), node.items[index]
            continue
        if not isinstance(node, Table):
            return place
        for length in range(len(rest), 0, -1):
            key = ".".join(str(part) for part in rest[:length])
            if key in node.entries:
                place, node, rest = (*place, key), node.entries[key].node, rest[length:]
                break
        else:
            if isinstance(step, int):
                rest = rest[1:]
            elif step == "types" and "type" in node.entries:
                rest = ("type", *rest[1:])
            else:
                return (*place, *rest)
    return place
