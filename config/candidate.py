"""Rules to be tried: the section `triggers` of texts that came from elsewhere, checked against what is in force.

In flow named texts and the configuration in force, out flow triggers, or ConfigProblems with all that is wrong. Only
triggers are read: sensors and pipelines are those in force. No file is opened, no code imported and no reference
followed, for the texts are another's: a trigger with a `${env:…}` in it is taken only if it stands as it does in force.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from config.cron_triggers import TYPES as TICKS
from config.cron_triggers import take_crons
from config.merge import merge_layer
from config.model import ServiceConfig
from config.problems import ConfigProblems, Path, Report
from config.reading import Reading
from config.sensors_section import OWN_TYPES, types_of
from config.triggers_section import canonical, digest, read_triggers
from config.yaml import Items, Node, Table, read_yaml
from pipelines.references import has_reference
from sensors.event import OWN_SENSOR
from sensors.registry import load_registry
from triggers.trigger import Trigger

_SCHEDULE: Final = "schedule"


def read_candidate(texts: Sequence[tuple[str, bytes]], config: ServiceConfig) -> Mapping[str, Trigger]:
    """Return the triggers of texts (name, YAML), one layer. Raises ConfigProblems with every problem of all of them."""
    names = [name for name, _ in texts]
    report = Report()
    tables = [read_yaml(text, name, report) for name, text in texts]
    whole = [table for table in tables if table is not None]
    if not whole or len(whole) < len(tables):
        raise ConfigProblems(report.sorted(names))
    root = merge_layer(whole, report)
    kept = {key: entry for key, entry in root.entries.items() if key == "triggers"}
    if not kept:
        report.add(root.mark, ("triggers",), "`triggers` is missing", "give the rules that are to be tried")
    reading = Reading(Table(root.mark, kept, root.size, root.depth), report, {}, config.base, strict=False)
    same = _as_in_force(reading, config)
    _refuse_references(reading, same)
    kinds = {entry.kind.name: entry.kind for entry in config.sensors.values()}
    if _SCHEDULE not in kinds:
        kinds[_SCHEDULE] = load_registry((), installed=())[_SCHEDULE]
    crons = take_crons(reading, kinds)
    types = {OWN_SENSOR: OWN_TYPES, **{name: types_of(entry.kind) for name, entry in config.sensors.items()}}
    parameters = {
        name: None if pipeline.params is None else tuple(pipeline.params) for name, pipeline in config.pipelines.items()
    }
    found = read_triggers(reading, {**types, **dict.fromkeys(crons, TICKS)}, parameters)
    report.raise_if_any(names)
    return {name: same.get(name, trigger) for name, trigger in found.items()}


def _as_in_force(reading: Reading, config: ServiceConfig) -> Mapping[str, Trigger]:
    """Return the triggers in force that stand in the texts as they were written for them."""
    written = {name: digest(canonical(node, 1), 16) for name, node in reading.table(("triggers",)).items()}
    return {
        name: config.triggers[name]
        for name, version in written.items()
        if name in config.triggers and config.triggers[name].version == version
    }


def _refuse_references(reading: Reading, same: Mapping[str, Trigger]) -> None:
    for name, node in reading.table(("triggers",)).items():
        if name in same:
            continue
        for path, text in _texts(node, ("triggers", name)):
            if has_reference(text):
                remedy = "write out what it stands for, or try the rules offline"
                reading.problem(path, "a reference in a rule that is not in force is not followed here", remedy)


def _texts(node: Node, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, Table):
        for key, entry in node.entries.items():
            yield from _texts(entry.node, (*path, key))
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from _texts(item, (*path, index))
    elif isinstance(node.value, str):
        yield path, node.text
