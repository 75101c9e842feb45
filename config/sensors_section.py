"""The section `sensors`: each entry names its kind, and that kind's own model validates the rest.

`defaults.sensor` fills in what an entry lacks, as far as its kind knows the key. The name `tidegate` is reserved for
the service's own events.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from config.merge import with_defaults
from config.model import SensorEntry
from config.problems import dotted, known_names
from config.reading import Reading, shown
from config.service_section import NAME, not_available
from config.typewalk import keys_of
from config.yaml import Items, Node, Scalar, Table
from sensors.clock import SystemClock
from sensors.event import OWN_SENSOR
from sensors.kind import SensorContext, SensorKind
from triggers.errors import ExpressionError, RuleError

LATER: Final = frozenset({"expect", "schema", "schema_registry", "marker", "notifications"})
OWN_TYPES: Final = (
    "tidegate.run.started",
    "tidegate.run.succeeded",
    "tidegate.run.failed",
    "tidegate.run.cancelled",
    "tidegate.run.late",
    "tidegate.run.late_risk",
    "tidegate.dataset.updated",
    "tidegate.dataset.fresh",
    "tidegate.dataset.unknown",
    "tidegate.dataset.stale",
    "tidegate.check.failed",
    "tidegate.join.overdue",
    "tidegate.sensor.unhealthy",
    "tidegate.sensor.recovered",
    "tidegate.schedule.missed",
)
_RESERVED_PATHS: Final = ("/api", "/healthz", "/readyz", "/metrics", "/console")
_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]+")


def read_sensors(
    reading: Reading, kinds: Mapping[str, SensorKind], service: str, connections: Mapping[str, Any]
) -> dict[str, SensorEntry]:
    """Return the sensors that can be used; whatever is wrong is reported."""
    context = SensorContext(name="", service=service, clock=SystemClock(), base=reading.base, connections=connections)
    entries: dict[str, SensorEntry] = {}
    defaults = reading.node(("defaults", "sensor"))
    _check_defaults(reading, defaults, kinds)
    for name, node in reading.table(("sensors",)).items():
        path = ("sensors", name)
        check_name(reading, path, "sensor")
        if name == OWN_SENSOR:
            reading.problem(path, "the name is reserved for the service's own events", "choose another", key=True)
        if not isinstance(node, Table):
            reading.problem(path, f"{shown(node)} is not a map", "write `{kind: webhook, …}`")
            continue
        kind = _kind(reading, path, node, kinds)
        if kind is None:
            continue
        known = keys_of(kind.options)
        later = [key for key in node.entries if key in LATER and key not in known]
        for key in later:
            reading.problem((*path, key), *not_available(key), key=True)
        own = Table(node.mark, {key: entry for key, entry in node.entries.items() if key not in later})
        whole = with_defaults(own, defaults, _defaulted(kind)) if isinstance(defaults, Table) else own
        without = "" if "kind" in known else "kind"
        options = reading.validate(kind.options, path, whole, without=without, template=kind.options.templates)
        if options is not None and _can_be_built(reading, path, whole, SensorEntry(name, kind, options), context):
            entries[name] = SensorEntry(name, kind, options)
    _check_paths(reading, entries)
    _check_webhooks(reading, entries)
    return entries


def _defaulted(kind: SensorKind) -> list[str]:
    """Return the keys of a kind that `defaults.sensor` fills in."""
    return [key for key in keys_of(kind.options) if key not in kind.options.undefaulted]


def emitted_types(reading: Reading, kinds: Mapping[str, SensorKind]) -> dict[str, tuple[str, ...] | None]:
    """Return, per configured name and for the own sensor, the types of its events; None when they cannot be listed."""
    types: dict[str, tuple[str, ...] | None] = {OWN_SENSOR: OWN_TYPES}
    for name in reading.table(("sensors",)):
        node = reading.node(("sensors", name, "kind"))
        kind = kinds.get(node.text) if isinstance(node, Scalar) else None
        listed = tuple(kind.emits.types) if kind is not None else ()
        types[name] = listed if listed and all(_TYPE.fullmatch(item) for item in listed) else None
    return types


def check_name(reading: Reading, path: tuple[str | int, ...], what: str) -> None:
    """Report a name that could not stand in URLs, metrics and expressions."""
    if not re.match(NAME, str(path[-1])):
        reading.problem(
            path, f"not a name for a {what}", "use letters, digits, `-` and `_` (at most 100, no dots)", key=True
        )


def _kind(
    reading: Reading, path: tuple[str | int, ...], node: Table, kinds: Mapping[str, SensorKind]
) -> SensorKind | None:
    entry = node.entries.get("kind")
    if entry is None:
        reading.problem((*path, "kind"), "`kind` is missing", known_names("", kinds, what="write one of"))
        return None
    name = entry.node.text if isinstance(entry.node, Scalar) else ""
    kind = kinds.get(name)
    if kind is None:
        reading.problem((*path, "kind"), f"there is no sensor kind {shown(entry.node)}", known_names(name, kinds))
    return kind


def _can_be_built(
    reading: Reading, path: tuple[str | int, ...], node: Table, entry: SensorEntry, context: SensorContext
) -> bool:
    """Build the sensor once, which never connects, so that expressions and secrets of the wrong form are found now."""
    from triggers.template import compile_function, compile_values

    before = len(reading.report)

    def compiled(text: str, names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
        try:
            return compile_function(text, names)
        except RuleError as error:
            reading.problem((*path, *_place_of_text(node, text)), sentence(error), error.hint)
            return _nothing

    def templated(value: Any, names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
        wrong = False
        for text in _texts(value):
            try:
                compile_values(text, names)
            except RuleError as error:
                wrong = True
                reading.problem((*path, *_place_of_text(node, text)), sentence(error), error.hint)
        return _nothing if wrong else compile_values(value, names)

    try:
        entry.kind.build(entry.options, replace(context, name=entry.name, compile=compiled, template=templated))
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; one bad sensor hides no other problem
        if not any(place[: len(path)] == path for place in reading.unknown):
            message, _, remedy = str(error).partition("; ")
            reading.problem(path, message or type(error).__name__, remedy, key=True)
            return False
    return len(reading.report) == before


def _nothing(_values: Mapping[str, Any]) -> None:
    """Stand in for an expression that could not be compiled."""


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a JSON-like value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _place_of_text(node: Node, text: str) -> tuple[str | int, ...]:
    """Return where a text stands in a map, nothing when it is not there."""
    if isinstance(node, Table):
        inside: Iterable[tuple[str | int, Node]] = ((key, entry.node) for key, entry in node.entries.items())
    elif isinstance(node, Items):
        inside = enumerate(node.items)
    else:
        return ()
    for step, item in inside:
        if isinstance(item, Scalar) and item.text == text:
            return (step,)
        below = _place_of_text(item, text)
        if below:
            return (step, *below)
    return ()


def sentence(error: RuleError) -> str:
    """Return what is wrong with a rule; where in its text, when that is known."""
    offset = error.offset if isinstance(error, ExpressionError) else -1
    return f"{error} (at character {offset + 1})" if offset > 0 else str(error)


def _check_defaults(reading: Reading, defaults: object, kinds: Mapping[str, SensorKind]) -> None:
    if isinstance(defaults, Table):
        known = {key for kind in kinds.values() for key in keys_of(kind.options)} - {"kind"}
        for key in defaults.entries:
            if key not in known and not key.startswith("x-"):
                path = ("defaults", "sensor", key)
                reading.problem(path, "no kind of sensor knows this key", known_names(key, known), key=True)


def _check_paths(reading: Reading, entries: Mapping[str, SensorEntry]) -> None:
    """Report paths of push sensors that collide with each other or with the service's own."""
    taken: dict[str, str] = {}
    for name, entry in entries.items():
        written = getattr(entry.options, "path", None)
        if not entry.kind.push or not isinstance(written, str):
            continue
        where = ("sensors", name, "path")
        route = "/" + re.sub(r"\{[^/]*\}", "{}", written.strip("/"))
        if route == "/" or any(route == own or route.startswith(f"{own}/") for own in _RESERVED_PATHS):
            reading.problem(where, f"the path `{written}` is the service's own", "write one such as /hooks/orders")
        elif route in taken:
            first = dotted(("sensors", taken[route], "path"))
            reading.problem(where, f"the path `{written}` is taken by {first}", "give each sensor a path of its own")
        else:
            taken[route] = name


def _check_webhooks(reading: Reading, entries: Mapping[str, SensorEntry]) -> None:
    """Report notifications that are to come by a webhook that is not there."""
    push = [name for name, entry in entries.items() if entry.kind.push]
    for name, entry in entries.items():
        told = getattr(getattr(entry.options, "notifications", None), "webhook", None)
        written = reading.table(("sensors",))
        if told is not None and told not in push and not (told in written and told not in entries):
            where = ("sensors", name, "notifications", "webhook")
            reading.problem(where, f"there is no webhook sensor `{told}`", known_names(told, push))
