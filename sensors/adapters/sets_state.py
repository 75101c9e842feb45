"""What a step that makes sets keeps durably: what waits since when, and what cannot be read. Versioned JSON; pure.

The cursor only adds to the memory of objects: what waits is not remembered as seen, so that a scan finds it again even
when the cursor is lost; what is broken is remembered, and the sentence about it stands here.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Final

from sensors.batch import Cursor, SeenObject
from sensors.errors import NotConnected
from sensors.listing import What

SHARD: Final = "sets"
MAX_BROKEN: Final = 100
_VERSION: Final = 1
_SENTENCE: Final = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest that waits: the memory to store when it is complete, what happened to it, since when (UTC micros)."""

    seen: SeenObject
    what: What
    since: int


@dataclass(slots=True)
class Broken:
    """Sentences about what is not retried before it changes, by key, oldest first; `more` are only counted."""

    sentences: dict[str, str] = field(default_factory=dict)
    more: int = 0

    def add(self, key: str, sentence: str) -> bool:
        """Note a sentence; returns True: the state changed."""
        self.sentences.pop(key, None)
        self.sentences[key] = sentence[:_SENTENCE]
        if len(self.sentences) > MAX_BROKEN:
            del self.sentences[next(iter(self.sentences))]
            self.more += 1
        return True

    def drop(self, key: str) -> bool:
        """Forget the sentence about a key; returns whether there was one."""
        if self.sentences.pop(key, None) is None:
            return False
        if not self.sentences:
            self.more = 0
        return True

    def trouble(self) -> str | None:
        """Return the first sentence, and how many more there are."""
        if not self.sentences:
            return None
        more = len(self.sentences) - 1 + self.more
        return next(iter(self.sentences.values())) + (f" (and {more} more like this)" if more else "")


def to_cursor(waiting: Mapping[str, Kept], broken: Broken) -> Cursor:
    """Return the state to store."""
    value = {
        "v": _VERSION,
        "waiting": [[*astuple(kept.seen), str(kept.what), kept.since] for kept in waiting.values()],
        "broken": list(broken.sentences.items()),
        "more": broken.more,
    }
    return Cursor(SHARD, json.dumps(value, separators=(",", ":")))


def from_cursors(cursors: Mapping[str, Cursor]) -> tuple[dict[str, Kept], Broken]:
    """Return the stored state, an empty one where there is none. Raises NotConnected for another version or form."""
    cursor = cursors.get(SHARD)
    if cursor is None or not cursor.value:
        return {}, Broken()
    try:
        value: Any = json.loads(cursor.value)
        if value["v"] != _VERSION:
            raise ValueError(value["v"])
        kept = [Kept(SeenObject(*row[:7]), What(row[7]), int(row[8])) for row in value["waiting"]]
        broken = Broken({str(key): str(sentence) for key, sentence in value["broken"]}, int(value["more"]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NotConnected(
            f"the stored state of sets has another form than version {_VERSION}; was it written by a newer version?"
        ) from error
    return {one.seen.key: one for one in kept}, broken
