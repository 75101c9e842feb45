"""The form of an API's items, and how it changes: fields that come, go, or hold something else than before. Pure.

What is remembered only grows: a field once seen stays known, with every type it ever had and whether all items had it.
So each change is told exactly once: a new field, a new type of a field, and the first absence of a field that no item
had ever lacked. `null` is no type. Fields of objects within objects are `a.b`, down to `DEEPEST` levels; what is inside
lists is not looked at, nor what is inside objects whose names are data (`{"2026-01-31": 7}`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

VERSION: Final = 1
DEEPEST: Final = 4
MOST: Final = 2_000  # fields; what has more is keyed by data, and has no form
_FIELD: Final = re.compile(r"[A-Za-z_$@][\w$@:-]*", re.ASCII)
_NAMES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}


@dataclass(frozen=True, slots=True)
class Field:
    """What is known of a field: its types, sorted, and whether every item had it."""

    types: tuple[str, ...]
    always: bool


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """What differs from what was known."""

    added: Mapping[str, Field]
    removed: Sequence[str]
    retyped: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.retyped)

    def data(self) -> Mapping[str, Any]:
        """Return it as JSON data."""
        return {
            "added": [{"name": name, "types": list(found.types)} for name, found in sorted(self.added.items())],
            "removed": sorted(self.removed),
            "retyped": [
                {"name": name, "expected": list(before), "found": list(now)}
                for name, (before, now) in sorted(self.retyped.items())
            ],
        }


@dataclass(slots=True)
class Sample:
    """The form of the items of one poll, gathered item by item."""

    count: int = 0
    types: dict[str, set[str]] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)  # how often a field held an object

    def add(self, item: Any) -> None:
        """Take an item into account; one that is no object has no form."""
        if isinstance(item, dict):
            self.count += 1
            self._walk(item, "", 1)

    def _walk(self, item: Mapping[str, Any], prefix: str, depth: int) -> None:
        for name, value in item.items():
            path = prefix + (name if name.isprintable() else ascii(name))[:200]
            if path not in self.present and len(self.present) >= MOST:
                continue
            self.present[path] = self.present.get(path, 0) + 1
            if value is None:
                self.types.setdefault(path, set())
                continue
            self.types.setdefault(path, set()).add(_NAMES.get(type(value), "number"))
            if isinstance(value, dict) and depth < DEEPEST and _is_record(value):
                self.objects[path] = self.objects.get(path, 0) + 1
                self._walk(value, path + ".", depth + 1)

    def fields(self) -> dict[str, Field]:
        """Return what was seen. A field of an inner object is always there when it is wherever the object is."""
        return {
            path: Field(tuple(sorted(kinds)), self.present[path] >= self._holders(path))
            for path, kinds in self.types.items()
        }

    def lacks(self, path: str) -> bool:
        """Say whether some object that should hold this field did not."""
        return self.present.get(path, 0) < self._holders(path)

    def _holders(self, path: str) -> int:
        above = path.rpartition(".")[0]
        return self.objects.get(above, 0) if above else self.count


def _is_record(value: Mapping[str, Any]) -> bool:
    """Say whether an object has fields, and is no map from data to data."""
    return len(value) <= MOST // 10 and all(_FIELD.fullmatch(name) for name in value)


def compare(known: Mapping[str, Field], sample: Sample) -> tuple[dict[str, Field], ShapeChange]:
    """Return what is known now, and what changed."""
    seen = sample.fields()
    after = dict(known)
    added: dict[str, Field] = {}
    retyped: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for path, found in seen.items():
        before = known.get(path)
        if before is None:
            if len(after) < MOST:
                added[path] = after[path] = found
            continue
        new = sorted({*before.types, *found.types})
        if before.types and len(new) > len(before.types):
            retyped[path] = (before.types, found.types)
        after[path] = Field(tuple(new), before.always)
    removed = []
    for path, before in known.items():
        if before.always and sample.count and sample.lacks(path):
            after[path] = Field(after[path].types, always=False)
            removed.append(path)
    return after, ShapeChange(added, removed, retyped)


def to_json(fields: Mapping[str, Field]) -> str:
    """Return the text to store."""
    rows = {path: [*found.types, *(("!",) if found.always else ())] for path, found in sorted(fields.items())}
    return json.dumps({"v": VERSION, "fields": rows}, separators=(",", ":"))


def from_json(text: str) -> dict[str, Field]:
    """Read stored text. Raises ValueError for another version or form."""
    value = json.loads(text)
    if not isinstance(value, dict) or value.get("v") != VERSION or not isinstance(value.get("fields"), dict):
        raise ValueError(f"the stored form of the items has another form than version {VERSION}")
    return {
        path: Field(tuple(kind for kind in kinds if kind != "!"), "!" in kinds)
        for path, kinds in value["fields"].items()
    }
