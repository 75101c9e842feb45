"""The step between files that changed and their events: look inside, refuse what is not as expected, move that away.

In flow what the judge made of a page; out flows the same with the content in the events' data, with dead letters in the
place of events that were refused, and without the files that cannot be read now: those are not remembered, so that the
next look finds them again. Files are inspected in the order of their events. Refused files are moved after the commit;
what could not be moved is tried again at the next scan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sensors.adapters.directory import FileChanged, Found
from sensors.adapters.judging import Judged
from sensors.adapters.names import safe_path
from sensors.adapters.object_steps import Inspected, Inspector
from sensors.adapters.offloop import OffLoop
from sensors.adapters.quarantine import Quarantine
from sensors.adapters.refusing import REASON, letter_of, refused, with_content
from sensors.adapters.shapes import shown
from sensors.adapters.tree import Tree
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.event import Event

PAGE: Final = 100  # files that may be read for one batch
_MAX_TROUBLES: Final = 1000


class FileContents:
    """Inspects the files of one tree. `again` is told the paths that should be looked at once more, now.

    `expects`: no event without having read the file. Otherwise one that may not be read is told without its content.
    """

    def __init__(
        self,
        inspector: Inspector | None,
        quarantine: Quarantine | None,
        tree: Tree,
        off: OffLoop,
        again: Callable[[str], None],
        *,
        expects: bool,
    ) -> None:
        self._inspector = inspector
        self._quarantine = quarantine
        self._tree = tree
        self._off = off
        self._again = again
        self._expects = expects
        self._unread: dict[str, tuple[str, int]] = {}  # path -> why, and in which scan
        self._unmoved: dict[str, tuple[str, int]] = {}
        self._scan = 0

    @property
    def page(self) -> int | None:
        """Return how many files a batch should hold at most, None when it does not matter."""
        return None if self._inspector is None else PAGE

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on from the durable state."""
        if self._inspector is not None:
            self._inspector.take_up(cursors)

    def scanned(self) -> None:
        """A whole scan ended: what it did not find unreadable again is well, or gone."""
        for troubles in (self._unread, self._unmoved):
            for path in [path for path, (_, scan) in troubles.items() if scan < self._scan]:
                del troubles[path]
        self._scan += 1

    def trouble(self) -> str | None:
        """Return which files cannot be read or moved."""
        told = [
            f"{len(troubles):,} file{'s' if len(troubles) > 1 else ''} cannot be {what}, such as {shown(path)}: {why}"
            for what, troubles in (("read", self._unread), ("moved to quarantine", self._unmoved))
            for path, (why, _) in list(troubles.items())[:1]
        ]
        return "; ".join(told) or None

    async def weigh(self, judged: Judged) -> Batch:
        """Return the batch as it is with the files' content known. Raises OSError never."""
        batch = judged.batch
        moves = list(judged.refused)
        if self._inspector is not None and judged.found:
            batch, bad = await self._inspect(batch, judged.found)
            moves += bad
        if self._quarantine is not None and moves:
            batch = replace(batch, ack=lambda: self._move(moves))
        return batch

    async def _inspect(self, batch: Batch, found: Mapping[str, Found]) -> tuple[Batch, Sequence[Found]]:
        assert self._inspector is not None  # noqa: S101 - the caller asked
        events: list[Event] = []
        letters: list[DeadLetter] = []
        moves: list[Found] = []
        memory = {seen.key: seen for seen in batch.seen}
        for event in batch.events:
            file = found.get(event.id)
            key = event.subject or ""
            if file is None:
                events.append(event)
                continue
            inspected = await self._look(file)
            if inspected is None:
                memory.pop(key, None)
            elif inspected.violation is None:
                events.append(with_content(event, inspected))
            else:
                letters.append(letter_of(event, inspected))
                memory[key] = refused(memory[key], event.type)
                moves.append(file)
        counts = {**batch.counts, REASON: len(letters)} if letters else batch.counts
        letters = [*batch.dead_letters, *letters]
        cursors = [*batch.cursors, *self._inspector.cursors()]
        seen = list(memory.values())
        return replace(batch, events=events, seen=seen, dead_letters=letters, counts=counts, cursors=cursors), moves

    async def _look(self, file: Found) -> Inspected | None:
        """Inspect one file; None when that must wait."""
        assert self._inspector is not None  # noqa: S101 - the caller asked

        async def read(start: int, length: int) -> bytes:
            return await self._off.do(self._tree.read, file, start, length)

        path = safe_path(file.path)
        try:
            inspected = await self._inspector.inspect(path, file.size, read)
        except FileChanged:
            self._again(file.path)
            return None
        except OSError as error:
            if isinstance(error, PermissionError) and not self._expects:
                return Inspected({"error": "it may not be read"})
            self._note(self._unread, path, error)
            return None
        self._unread.pop(path, None)
        return inspected

    async def _move(self, files: Sequence[Found]) -> None:
        assert self._quarantine is not None  # noqa: S101 - the caller asked
        failed: OSError | None = None
        for file in files:
            path = safe_path(file.path)
            try:
                await self._off.do(self._tree.take_to, self._quarantine, file)
            except OSError as error:
                self._note(self._unmoved, path, error)
                failed = error
            else:
                self._unmoved.pop(path, None)
                self._again(file.path)
        if failed is not None:
            raise failed

    def _note(self, troubles: dict[str, tuple[str, int]], path: str, error: OSError) -> None:
        if path in troubles or len(troubles) < _MAX_TROUBLES:
            troubles[path] = (error.strerror or str(error), self._scan)
