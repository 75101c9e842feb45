"""Complete sets: which id they have, and what their members have in common. Pure.

In flow what completes a set, and its members; out flows one `CompleteSet`, the same however often it is made.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sensors.adapters.object_steps import CompleteSet, ObjectChange
from sensors.adapters.objects import Listed
from sensors.listing import Entry
from sensors.patterns import Pattern

MAX_MEMBERS: Final = 100_000


def make_set(subject: str, mark: ObjectChange, members: Iterable[Listed], match: Mapping[str, str]) -> CompleteSet:
    """Return the set that `mark` (a change of a marker or manifest that is there) completes.

    The id covers keys and tokens of the members and the version of the mark with its modification: publishing the same
    objects again is another set, finding the same publication again is not.
    """
    ordered = sorted(members, key=lambda member: member.key.encode("utf-8", "surrogatepass"))
    modified = mark.entry.modified if mark.entry is not None else None
    digest = hashlib.sha256()
    for text in (mark.seen.token, str(modified), str(mark.seen.incarnation)):
        _add(digest, text)
    for member in ordered:
        _add(digest, member.key)
        _add(digest, member.token)
    return CompleteSet(f"{subject}@{digest.hexdigest()[:40]}", subject, ordered, modified or 0, match)


def renewed(change: ObjectChange, listed: Listed, now: int) -> ObjectChange:
    """Return a change as it is of a later version of its object. `now` in UTC micros."""
    if change.entry is not None and change.entry.token == listed.token:
        return change
    seen = replace(change.seen, token=listed.token, last_changed=now)
    return replace(change, entry=Entry(listed.key, listed.token, listed.modified, listed), seen=seen)


class Shared:
    """The captures that all of many keys have in common."""

    def __init__(self, pattern: Pattern | None) -> None:
        self._pattern = pattern
        self._match: dict[str, str] | None = None

    def add(self, keys: Iterable[str]) -> None:
        """Look at more keys; those that the pattern does not match say nothing."""
        if self._pattern is None:
            return
        for key in keys:
            captures = self._pattern.match(key)
            if captures is None:
                continue
            if self._match is None:
                self._match = captures
            elif self._match:
                self._match = {name: text for name, text in self._match.items() if captures.get(name) == text}

    @property
    def match(self) -> Mapping[str, str]:
        """Return the captures that are the same in all keys."""
        return self._match or {}


def shared(pattern: Pattern | None, keys: Sequence[str]) -> Mapping[str, str]:
    """Return the captures that are the same in all keys that a pattern matches."""
    found = Shared(pattern)
    found.add(keys)
    return found.match


def _add(digest: "hashlib._Hash", text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    digest.update(f"{len(raw)}:".encode())
    digest.update(raw)
