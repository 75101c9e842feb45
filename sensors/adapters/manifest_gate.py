"""Files that count when their manifest is complete, each an event of its own (`emit: file`).

In flow changes of files and manifests; out flow the files that a complete manifest names, as soon as all of them are
there. Which manifest a file belongs to follows from its captures, so that nothing about single files is kept: a scan
shows again what waits, and its manifest is asked again.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sensors.adapters.file_gate import FileGate, Opens
from sensors.adapters.heads import heads
from sensors.adapters.manifest import Manifests
from sensors.adapters.manifest_look import ManifestLook, is_there
from sensors.adapters.manifest_text import Unreadable
from sensors.adapters.object_steps import Judged, ObjectChange
from sensors.adapters.objects import Listed, ObjectSource
from sensors.batch import Cursor
from sensors.errors import BadPayload, NotConnected

_CACHED: Final = 4


@dataclass(frozen=True, slots=True)
class _Named:
    """What one version of a manifest lists, all of which was there."""

    token: str
    names: frozenset[str]


class ManifestOpener:
    """A manifest opens the files that it names when all of them are there."""

    def __init__(self, manifests: Manifests, look: ManifestLook, source: ObjectSource, min_size: int) -> None:
        self._manifests = manifests
        self._look = look
        self._source = source
        self._min_size = min_size
        self._cache: OrderedDict[str, _Named] = OrderedDict()
        self.arrived: Mapping[str, frozenset[str]] = {}  # what has just become complete

    async def open(self, marks: Collection[str], arrived: Mapping[str, Listed]) -> Mapping[str, Opens]:
        """Look at manifests, and at the files of those that are not known to be complete."""
        opened: dict[str, Opens] = {}
        ask = [key for key in marks if key not in arrived and not self._manifests.waits(key)]
        for key, listed in (await heads(self._source, ask)).items():
            named = await self._named(listed) if listed is not None else None
            if named is not None:
                opened[key] = _in(named.names)
        opened.update((key, _in(self.arrived[key])) for key in arrived)
        return opened

    async def _named(self, manifest: Listed) -> _Named | None:
        known = self._cache.get(manifest.key)
        if known is not None and known.token == manifest.token:
            self._cache.move_to_end(manifest.key)
            return known
        try:
            keys = await self._look.names(manifest)
            if keys is None:
                return None
            looked = await heads(self._source, keys)
        except (Unreadable, BadPayload):  # named as trouble when its own change is judged
            return None
        except NotConnected:  # as of `ManifestLook`: one file that must not be looked at
            await self._source.head(manifest.key)
            return None
        if not all(is_there(listed, self._min_size) for listed in looked.values()):
            return None
        named = self._cache[manifest.key] = _Named(manifest.token, frozenset(keys))
        self._cache.move_to_end(manifest.key)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return named


class ManifestGate:
    """A `Completeness` for single files that manifests name."""

    def __init__(self, manifests: Manifests, opener: ManifestOpener, gate: FileGate) -> None:
        self._manifests = manifests
        self._opener = opener
        self._gate = gate
        self._owed = Judged()

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on with the manifests that waited."""
        self._manifests.take_up(cursors)
        self._gate.take_up(cursors)
        self._owed = Judged()

    def marks(self, key: str) -> bool:
        """Say whether a key is that of a manifest."""
        return self._manifests.marks(key)

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Return the files whose manifest is complete; remember manifests."""
        return await self._through(await self._manifests.judge(changes, now), changes, now)

    def next_due(self) -> float | None:
        """Return when the next manifest is to be looked at."""
        return self._manifests.next_due()

    async def due(self, now: int) -> Judged:
        """Look at the manifests whose time has come, and let the files of those pass that are complete."""
        return await self._through(await self._manifests.due(now), (), now)

    def trouble(self) -> str | None:
        """Name what is overdue or cannot be used."""
        return self._manifests.trouble()

    async def _through(self, judged: Judged, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Let files pass. What manifests left to store is kept until that has not failed."""
        seen = [one for one in judged.seen if self.marks(one.key)]
        self._owed = Judged(
            sets=[*self._owed.sets, *judged.sets],
            seen=[*self._owed.seen, *seen],
            cursors=judged.cursors or self._owed.cursors,
            notices=[*self._owed.notices, *judged.notices],
        )
        complete = {found.subject: found for found in self._owed.sets}
        self._opener.arrived = {key: frozenset(one.key for one in found.members) for key, found in complete.items()}
        arrived = {key: Listed(key, 0, "", found.time) for key, found in complete.items()}  # that it is there, counts
        files = [change for change in changes if not self.marks(change.seen.key)]
        ready = await self._gate.passing(files, arrived, now)
        owed, self._owed = self._owed, Judged()
        return Judged(ready=ready, seen=owed.seen, cursors=owed.cursors, notices=owed.notices)


def _in(names: frozenset[str]) -> Opens:
    return lambda file: file.key in names
