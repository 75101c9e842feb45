"""What notifications said, sorted by what is to be done about it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.objects import Hint


@dataclass(slots=True)
class Sorted:
    """Hints on single keys, on folders, and how many were about what is not watched.

    `keys` are all keys to look at: those of the hints, and where renamed objects were. `places` are the folders to
    list: those of the hints, and where renamed folders were.
    """

    hints: dict[str, Hint] = field(default_factory=dict)
    folders: list[Hint] = field(default_factory=list)
    ignored: int = 0
    keys: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def sort_hints(hints: Iterable[Hint], scope: ObjectScope, prefixes: Sequence[str]) -> Sorted:
    """Sort hints; `prefixes` are those of this moment. What leads out of what is watched has left it."""
    found = Sorted()
    for told in hints:
        hint = told
        if not scope.in_reach(hint.key, prefixes):
            if not (hint.old_key and scope.in_reach(hint.old_key, prefixes)):
                found.ignored += 1
                continue
            hint = Hint(hint.old_key, "subtree" if hint.what == "subtree" else "removed", time=hint.time)
        if hint.what == "subtree":
            found.folders.append(hint)
        elif hint.what != "written" or hint.key not in found.hints or found.hints[hint.key].what != "renamed":
            found.hints[hint.key] = hint  # that it was renamed says more than that it was written
    olds = [hint.old_key for hint in found.hints.values() if hint.what == "renamed" and hint.old_key]
    found.keys = list(dict.fromkeys([*found.hints, *(old for old in olds if scope.in_reach(old, prefixes))]))
    places = [folder for hint in found.folders for folder in (hint.key, hint.old_key) if folder]
    found.places = [folder for folder in places if scope.in_reach(folder, prefixes)]
    return found
