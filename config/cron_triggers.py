"""`on: {cron: …}` of a trigger: a schedule sensor of its own, and the trigger listens to that.

In flow the tree as it was written; out flow the derived sensors, and a tree in which each such `on` names its sensor.
The sensor of the trigger `nightly` is `cron:nightly`, a second one `cron:nightly:2`: names that nobody can write, with
which `tidegate sensors`, `events` and `explain` know them like any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from config.model import SensorEntry
from config.problems import Path
from config.reading import Reading
from config.service_section import Options
from config.yaml import Entry, Items, Node, Scalar, Table
from sensors.adapters.schedule_times import Cron, zone_of
from sensors.kind import SensorKind

KIND: Final = "schedule"
TYPES: Final = ("schedule.tick",)
_KEYS: Final = frozenset({"cron", "timezone"})


def _cron(value: str) -> str:
    Cron(value, zone_of("UTC"))
    return value


def _zone(value: str) -> str:
    zone_of(value)
    return value


class CronOptions(Options):
    """One entry of `on` that is a time: the trigger fires when it has come."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(
        max_length=200, description="minute, hour, day, month and weekday, such as `0 6 * * 1-5`; or `@daily`"
    )
    timezone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="whose clock it goes by, such as Europe/Oslo; by default UTC"
    )
    catch_up: Literal["all", "latest", "none"] = Field(
        default="latest", description="which of the times that were missed while the service was away count afterwards"
    )


def take_crons(reading: Reading, kinds: Mapping[str, SensorKind]) -> dict[str, SensorEntry | None]:
    """Return the sensors of all `on: {cron: …}` by name, and let the triggers of `reading` listen to them.

    One with a problem (reported) is None: its name is known, so that the trigger itself is not complained of.
    """
    found: dict[str, SensorEntry | None] = {}

    def derive(trigger: str, entry: Table, path: Path) -> Table:
        mine = sum(name == f"cron:{trigger}" or name.startswith(f"cron:{trigger}:") for name in found)
        name = f"cron:{trigger}:{mine + 1}" if mine else f"cron:{trigger}"
        found[name] = _sensor(reading, name, entry, path, kinds)
        mark = next(item.mark for key, item in entry.entries.items() if key in _KEYS)
        return replace(entry, entries={"sensor": Entry(mark, Scalar(mark, name, name))})

    triggers = reading.root.entries.get("triggers")
    if triggers is not None and isinstance(triggers.node, Table):
        changed = {name: _without(name, entry, derive) for name, entry in triggers.node.entries.items()}
        if found:
            section = replace(triggers, node=replace(triggers.node, entries=changed))
            reading.root = replace(reading.root, entries={**reading.root.entries, "triggers": section})
    return found


def _without(name: str, entry: Entry, derive: Callable[[str, Table, Path], Table]) -> Entry:
    """Return a trigger whose times were replaced by sensors."""
    if not isinstance(entry.node, Table) or "on" not in entry.node.entries:
        return entry
    on = entry.node.entries["on"]
    path: Path = ("triggers", name, "on")
    node: Node = on.node
    if isinstance(node, Items):
        items = (derive(name, item, (*path, n)) if _is_time(item) else item for n, item in enumerate(node.items))  # type: ignore[arg-type]
        node = replace(node, items=tuple(items))
    elif isinstance(node, Table) and _is_time(node):
        node = derive(name, node, path)
    if node == on.node:
        return entry
    return replace(entry, node=replace(entry.node, entries={**entry.node.entries, "on": replace(on, node=node)}))


def _is_time(node: Node) -> bool:
    return isinstance(node, Table) and not _KEYS.isdisjoint(node.entries)


def _sensor(
    reading: Reading, name: str, entry: Table, path: Path, kinds: Mapping[str, SensorKind]
) -> SensorEntry | None:
    options = reading.validate(CronOptions, path, entry)
    kind = kinds.get(KIND)
    if kind is None:
        reading.problem(path, f"there is no sensor kind `{KIND}`, of which `cron` is made", "take it out")
    if options is None or kind is None:
        return None
    return SensorEntry(name, kind, kind.options.model_validate(options.model_dump()))
