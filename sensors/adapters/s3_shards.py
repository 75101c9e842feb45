"""How a listing is split into parts: pure functions on the names of one level.

In flow folders and objects, out flow prefixes that cover all of them, none within another, in the order of their UTF-8
bytes.
"""

from collections import defaultdict
from collections.abc import Iterable


def split(names: Iterable[str], limit: int) -> list[str]:
    """Return at most `limit` (≥ 1) prefixes that cover all names. The widest part is split as long as there is room."""
    groups = [_outermost(names)]
    whole: list[list[str]] = []  # cannot be split
    while groups:
        widest = max(groups, key=len)
        parts = _fork(widest)
        groups.remove(widest)
        if len(parts) == 1 or len(groups) + len(whole) + len(parts) > limit:
            whole.append(widest)
        else:
            groups += parts
    return sorted((_common(group) for group in whole if group), key=str.encode)


def _outermost(names: Iterable[str]) -> list[str]:
    """Return names in order, without those that begin with another one."""
    found: list[str] = []
    for name in sorted(set(names), key=str.encode):
        if not found or not name.startswith(found[-1]):
            found.append(name)
    return found


def _fork(group: list[str]) -> list[list[str]]:
    """Part names by the character behind what all have in common."""
    if len(group) < 2:
        return [group]
    at = len(_common(group))
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name in group:
        parts[name[at]].append(name)  # none ends at `at`: the others would begin with it
    return list(parts.values())


def _common(group: list[str]) -> str:
    """Return what all names of an ordered list begin with."""
    first, last = group[0], group[-1]
    at = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:at]
