"""Buckets whose every version counts: what the versions of keys mean against what is remembered. Pure.

In flow versions and delete markers in any order, with what is remembered of their keys: the newest version that became
an event. Out flow changes, oldest first within a key, one for each version that is newer than that. A version that is
told twice has the same id both times, so that the ids drop the repeat.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sensors.adapters.object_steps import ObjectChange
from sensors.adapters.objects import Listed
from sensors.batch import SeenObject
from sensors.listing import DELETED, PRESENT, Change, Entry, What

_TOLD = 50


def compare_versions(objects: Iterable[Listed], seen: Mapping[str, SeenObject], now: int) -> list[ObjectChange]:
    """Return a change for each version that is news. `now` in UTC micros.

    The memory of a key is its newest version; `extra` holds when that was written, and what else was in that second.
    """
    by_key: defaultdict[str, list[Listed]] = defaultdict(list)
    for listed in objects:
        by_key[listed.key].append(listed)
    changes: list[ObjectChange] = []
    for key, versions in by_key.items():
        versions.sort(key=lambda one: one.modified)
        changes += _of_key(key, versions, seen.get(key), now)
    return changes


def _of_key(key: str, versions: list[Listed], known: SeenObject | None, now: int) -> Iterable[ObjectChange]:
    since, there, first = 0, False, now
    told: list[str] = []  # the versions of the newest second: their order is not known
    if known is not None:
        extra = json.loads(known.extra or "{}")
        since, told = int(extra.get("at", 0)), list(extra.get("of", ()))
        there, first = known.state == PRESENT, known.first_seen
    for listed in versions:
        if listed.modified < since or listed.token in told:
            continue
        told = [*told, listed.token][-_TOLD:] if listed.modified == since else [listed.token]
        since = listed.modified
        what = What.DELETED if listed.deleted else What.OVERWRITTEN if there else What.CREATED
        there = not listed.deleted
        state = PRESENT if there else DELETED
        extra = json.dumps({"at": since, "of": told}, separators=(",", ":"))
        seen = SeenObject(key, listed.token, 0, state, first, now, extra)
        yield Change(what, Entry(key, listed.token, listed.modified, listed), seen)
