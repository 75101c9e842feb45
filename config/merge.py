"""Layers of configuration become one tree: later files win, maps merge key by key, lists and values are replaced.

All CONFIG files are one layer, in which the same named thing may stand once; every overlay is a layer of its own, in
which `null` takes a key away. Positions survive: every key and value still knows its file.
"""

from collections.abc import Sequence
from typing import Final

from config.problems import Path, Report
from config.yaml import Entry, Node, Scalar, Table

NAMED: Final = ("connections", "sensors", "triggers", "datasets", "pipelines", "alerts", "pools")


def merge_layer(tables: Sequence[Table], report: Report) -> Table:
    """Merge the files of one layer left to right; a name that two files define is reported."""
    merged = tables[0]
    for table in tables[1:]:
        for section in NAMED:
            _report_twins(merged, table, section, report)
        merged = merge(merged, table, removes=False)
    return merged


def merge(base: Table, over: Table, *, removes: bool = True) -> Table:
    """Return `base` with `over` laid on top; `removes`: a null in `over` takes the key away."""
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        if removes and isinstance(entry.node, Scalar) and entry.node.value is None:
            entries.pop(key, None)
        elif below is not None and isinstance(below.node, Table) and isinstance(entry.node, Table):
            entries[key] = Entry(entry.mark, merge(below.node, entry.node, removes=removes))
        else:
            entries[key] = entry
    return Table(over.mark if over.entries else base.mark, entries, base.size, base.depth)


def with_defaults(node: Table, defaults: Table, known: Sequence[str]) -> Table:
    """Return the map with what it lacks taken from `defaults`, as far as its keys are `known` there."""
    chosen = {key: entry for key, entry in defaults.entries.items() if key in known}
    merged = merge(Table(defaults.mark, chosen), node, removes=False)
    return Table(node.mark, merged.entries, node.size, node.depth)


def section(root: Table, name: str) -> Node | None:
    """Return the node of a top-level section, None when absent or null."""
    entry = root.entries.get(name)
    if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
        return None
    return entry.node


def _report_twins(merged: Table, table: Table, name: str, report: Report) -> None:
    left, right = section(merged, name), section(table, name)
    if not isinstance(left, Table) or not isinstance(right, Table):
        return
    for key, entry in right.entries.items():
        first = left.entries.get(key)
        if first is not None:
            path: Path = (name, key)
            report.add(
                entry.mark,
                path,
                f"the name is defined twice in one layer (first: {first.mark})",
                "rename one, or lay the change over it with --overlay",
            )
