"""Folders that are complete when their marker is there: one event for all that lies in them.

In flow changes of files and markers; out flow the memory of files (no event of their own), and one set for each
publication of a marker. The folder is listed when its marker is new or written again: the listing is the truth, page by
page. Marker and set become durable together, so that the same publication is never found twice.
"""

from collections.abc import Callable, Mapping, Sequence

from sensors.adapters.complete_sets import MAX_MEMBERS, Shared, make_set, renewed
from sensors.adapters.marks import Marks, folder_captures
from sensors.adapters.object_steps import CompleteSet, Judged, ObjectChange
from sensors.adapters.objects import Listed, ObjectSource
from sensors.adapters.sets_state import Broken, from_cursors, to_cursor
from sensors.batch import Cursor, SeenObject
from sensors.patterns import Pattern


class FolderMarker:
    """A `Completeness` by markers such as `_SUCCESS`. `wanted` says which objects of a folder are members."""

    def __init__(
        self, marks: Marks, pattern: Pattern | None, wanted: Callable[[Listed], bool], source: ObjectSource
    ) -> None:
        self._marks = marks
        self._pattern = pattern
        self._wanted = wanted
        self._source = source
        self._broken = Broken()

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on with what was said about folders that are too large."""
        _, self._broken = from_cursors(cursors)

    def marks(self, key: str) -> bool:
        """Say whether a key is a marker of a folder that may hold files."""
        return self._marks.match(key) is not None

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Remember files; make a set of each folder whose marker is new or written again."""
        ready: list[ObjectChange] = []
        sets: list[CompleteSet] = []
        seen: list[SeenObject] = []
        verdicts: dict[str, str] = {}  # marker -> what is wrong with its folder
        for change in changes:
            key = change.seen.key
            if not self.marks(key):
                if change.entry is None:
                    ready.append(change)
                else:
                    seen.append(change.seen)
                continue
            verdicts[key] = ""
            if change.entry is None:
                seen.append(change.seen)
                continue
            found = await self._list(change, now)
            if found is None:
                continue
            newest, made = found
            seen.append(newest.seen)
            if isinstance(made, str):
                verdicts[key] = made
            else:
                sets.append(made)
        return Judged(ready, sets, seen, self._note(verdicts))

    def next_due(self) -> float | None:
        """Return None: nothing waits here, files without a marker are remembered."""
        return None

    async def due(self, now: int) -> Judged:
        """Do nothing."""
        return Judged()

    def trouble(self) -> str | None:
        """Return what is wrong with a folder."""
        return self._broken.trouble()

    async def _list(self, change: ObjectChange, now: int) -> tuple[ObjectChange, CompleteSet | str] | None:
        """List a marker's folder: the marker as it is now, and its set; None when it has gone meanwhile."""
        marker = change.seen.key
        folder = marker[: marker.rfind("/") + 1]
        members: dict[str, Listed] = {}
        common = Shared(self._pattern)
        newest: ObjectChange | None = None
        token: str | None = None
        while True:
            page = await self._source.page(folder, token)
            part = [listed for listed in page.objects if self._wanted(listed) and not self.marks(listed.key)]
            members.update((listed.key, listed) for listed in part)
            common.add(listed.key for listed in part)
            for listed in page.objects:
                if listed.key == marker:
                    newest = renewed(change, listed, now)
            if len(members) > MAX_MEMBERS:
                return change, (
                    f"{marker}: its folder holds more than {MAX_MEMBERS} files, too many for one event; "
                    "narrow `pattern`, or say `emit: file`"
                )
            token = page.next
            if token is None:
                break
        if newest is None:
            return None
        match = {**common.match, **folder_captures(self._pattern, folder)}
        return newest, make_set(folder or "/", newest, members.values(), match)

    def _note(self, verdicts: Mapping[str, str]) -> Sequence[Cursor]:
        changed = False
        for key, sentence in verdicts.items():
            changed |= self._broken.add(key, sentence) if sentence else self._broken.drop(key)
        return (to_cursor({}, self._broken),) if changed else ()
