"""Delivery tags that are not acknowledged yet, and the events that some of them wait for. Of one connection each."""

from collections.abc import Mapping, Sequence

from sensors.ports import Lookup

_AT_ONCE = 5_000


class Outstanding:
    """Tags in the order in which they came, which is that of their numbers."""

    def __init__(self) -> None:
        self._tags: dict[int, bool] = {}  # tag -> settled

    def add(self, tag: int) -> None:
        """Note a delivery."""
        self._tags[tag] = False

    def settled(self, tags: Sequence[int]) -> Sequence[tuple[int, bool]]:
        """Return the acknowledgements that settle these tags and no other: (tag, whether all before it as well)."""
        new = set(tags)
        if not new:
            return ()
        last = 0
        for tag in list(self._tags):
            if tag not in new:
                break
            del self._tags[tag]
            new.discard(tag)
            last = tag
        calls = [(last, True)] if last else []
        for tag in sorted(new):
            if self._tags.pop(tag, None) is not None:
                calls.append((tag, False))
        return calls


class Waiting:
    """Tags that wait until the runs of their events have ended."""

    def __init__(self) -> None:
        self._events: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, events: Mapping[int, str]) -> None:
        """Have tags wait for the events of these uids."""
        self._events.update(events)

    async def ended(self, lookup: Lookup) -> list[int]:
        """Take out and return the tags whose events are done with. Raises what the lookup raises."""
        if not self._events:
            return []
        uids = sorted(set(self._events.values()))
        open_: set[str] = set()
        for start in range(0, len(uids), _AT_ONCE):
            open_ |= await lookup.unfinished(uids[start : start + _AT_ONCE])
        done = [tag for tag, uid in self._events.items() if uid not in open_ and uid in uids]
        for tag in done:
            del self._events[tag]
        return done
