"""What was seen of objects, against what is remembered: which of it is an event now, which waits, which is nothing.

In flow pages of a listing, looks at single keys that a notification named, and remembered objects whose absence is
proven; out flow batches: events with the memory that makes them durable once, dead letters of what breaks its promise,
and what is to be done to objects afterwards. Both routes end in the same change with the same id.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sensors.adapters.after import tagged_by_us
from sensors.adapters.names import odd_key
from sensors.adapters.object_look import Taken
from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.object_steps import Completeness, CompleteSet, Inspected, Inspector, Judged, ObjectChange
from sensors.adapters.object_versions import compare_versions
from sensors.adapters.objects import SECOND, Hint, Listed, ObjectSource
from sensors.adapters.position import Position
from sensors.adapters.refusing import accepted, as_told, is_untold, letter_of, refused, with_content
from sensors.adapters.together import AT_ONCE, at_once
from sensors.batch import Batch, Cursor, DeadLetter, Notice, ObjectAction, SeenObject
from sensors.clock import Clock
from sensors.errors import BadPayload
from sensors.event import Event
from sensors.listing import DELETED, PRESENT, Change, Entry, What, compare, vanished
from sensors.ports import Lookup
from sensors.scan import Scan

ODD = "odd"  # the state under which a key that cannot be stored is remembered


@dataclass(frozen=True, slots=True)
class Steps:
    """What lies between a change and its event. `after` plans what is to be done to the object once its run allows."""

    completeness: Completeness | None = None
    inspector: Inspector | None = None
    inspect_at_once: int = 1
    expects: bool = False
    after: Callable[[Event, Listed], ObjectAction] | None = None
    refuse: Callable[[Event, Listed], ObjectAction] | None = None
    details: bool = False
    keep_reuploads: bool = True
    versions: bool = False
    folders: bool = False


@dataclass(slots=True)
class _Made:
    """A batch in the making."""

    events: list[Event] = field(default_factory=list)
    seen: list[SeenObject] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    actions: list[ObjectAction] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: str, n: int = 1) -> None:
        if n:
            self.counts[outcome] = self.counts.get(outcome, 0) + n


class ObjectJudge:
    """Judges what one sensor sees. Called from one task."""

    def __init__(self, scope: ObjectScope, source: ObjectSource, steps: Steps, clock: Clock) -> None:
        self._scope = scope
        self._source = source
        self._steps = steps
        self._clock = clock

    # -- what was seen ------------------------------------------------------------------------------------------------
    async def page(
        self,
        scan: "Scan[Listed]",
        taken: Taken,
        lookup: Lookup,
        position: Position,
        *,
        quiet: int | None = None,
    ) -> Batch:
        """Judge one page of a listing. `quiet`: what was modified until then (UTC micros) is only remembered."""
        shard, objects = taken.shard, taken.objects
        now = self._clock.now()
        entries, odd = self._sort(objects)
        keys = [listed.key for listed in objects]
        if self._steps.versions:
            changes = await self._versions(entries, lookup, now)
            scan.note(shard, keys)
        else:
            changes = await scan.page(lookup, shard, keys, entries, now, taken.asked)
        made = _Made()
        if odd:
            await self._dead(odd, lookup, now, made)

        def known_already(change: ObjectChange) -> bool:
            modified = change.entry.modified if change.entry is not None else None
            return (quiet is not None and modified is not None and modified <= quiet) or _history(change, position)

        told = self._split(changes, made, known_already)
        told = await self._others(told, lookup, made)
        return await self._finish(told, {}, made, now)

    async def looked(
        self, found: Mapping[str, Listed | None], hints: Mapping[str, Hint], lookup: Lookup, position: Position
    ) -> Batch:
        """Judge what keys turned out to be that a notification named; None where no object is."""
        now = self._clock.now()
        made = _Made()
        entries, odd = self._sort([listed for listed in found.values() if listed is not None])
        olds = {hint.old_key for hint in hints.values() if hint.what == "renamed" and hint.old_key}
        known = await lookup.seen(list({*found, *olds})) if found else {}
        if odd:
            await self._dead(odd, lookup, now, made)
        changes = compare(entries, known, now)

        def history(change: ObjectChange) -> bool:
            hint = hints.get(change.seen.key)
            told_late = hint is None or hint.time is None or hint.time < position.since
            return told_late and _history(change, position)

        told = await self._others(self._split(changes, made, history), lookup, made)
        present = {entry.key for entry in entries}
        renamed = {
            key: hint.old_key
            for key, hint in hints.items()
            if hint.what == "renamed" and hint.old_key and key in present
        }
        gone = [key for key, listed in found.items() if listed is None]
        made.count("gone", sum(known[key].state != PRESENT if key in known else True for key in gone))
        lost = [known[key] for key in gone if key in known]
        await self._lose([row for row in lost if row.key not in renamed.values()], lookup, made, now)
        left = [known[old] for old in renamed.values() if old in known and old not in present]
        made.seen += [change.seen for change in _gone(left, now)]
        return await self._finish(told, renamed, made, now)

    async def versions(self, objects: Sequence[Listed], lookup: Lookup, position: Position) -> Batch:
        """Judge all versions of keys that a notification named."""
        now = self._clock.now()
        entries, _ = self._sort(objects)
        made = _Made()
        changes = await self._versions(entries, lookup, now)
        return await self._finish(self._split(changes, made, lambda one: _history(one, position)), {}, made, now)

    async def _versions(self, entries: Sequence[Entry[Listed]], lookup: Lookup, now: int) -> list[ObjectChange]:
        known = await lookup.seen(list({entry.key for entry in entries})) if entries else {}
        return compare_versions((entry.detail for entry in entries), known, now)

    async def vanished(self, rows: Sequence[SeenObject], lookup: Lookup, *, silent: bool = False) -> Batch:
        """Judge remembered objects whose absence is proven. `silent`: only forget them."""
        made = _Made()
        now = self._clock.now()
        if silent:
            made.seen += [change.seen for change in _gone(rows, now)]
        else:
            await self._lose(rows, lookup, made, now)
        return _batch(made)

    async def due(self) -> Batch:
        """Judge what waited until now."""
        made = _Made()
        completeness = self._steps.completeness
        if completeness is None:
            return Batch()
        now = self._clock.now()
        return await self._emit(await completeness.due(now), {}, made, now)

    # -- how it is judged ---------------------------------------------------------------------------------------------
    def _sort(self, objects: Iterable[Listed]) -> tuple[list[Entry[Listed]], list[Listed]]:
        """Return the entries that count, and those whose key no text column takes."""
        scope, completeness = self._scope, self._steps.completeness
        entries: list[Entry[Listed]] = []
        odd: list[Listed] = []
        for listed in objects:
            why = scope.left_out(listed)
            if why is None or (completeness is not None and why != "odd" and completeness.marks(listed.key)):
                entries.append(Entry(listed.key, listed.token, listed.modified, listed))
            elif why == "odd":
                odd.append(listed)
        return entries, odd

    def _split(
        self, changes: Iterable[ObjectChange], made: _Made, history: Callable[[ObjectChange], bool]
    ) -> list[ObjectChange]:
        """Return the changes that are news; of the others only the memory is kept."""
        keep, completeness = self._steps.keep_reuploads, self._steps.completeness
        marks = completeness.marks if completeness is not None else lambda _: False  # the same marker is news
        news = []
        for change in changes:
            if history(change) or (not keep and _reupload(change) and not marks(change.seen.key)):
                made.seen.append(change.seen)
            else:
                news.append(change)
        return news

    async def _others(self, changes: list[ObjectChange], lookup: Lookup, made: _Made) -> list[ObjectChange]:
        """Return the changes that others made; of what we wrote ourselves (tags) only the memory is kept."""
        if self._steps.after is None:
            return changes
        keys = [change.seen.key for change in changes if change.what is What.OVERWRITTEN]
        open_ = await lookup.open_actions(keys) if keys else {}
        others = []
        for change in changes:
            tags = [
                action
                for action in open_.get(change.seen.key, ())
                if action.what == "tag" and change.before.startswith(f"{action.etag}+")
            ]
            listed = await self._source.head(change.seen.key, details=True) if tags else None
            if listed is not None and any(tagged_by_us(action, listed) for action in tags):
                made.seen.append(change.seen)
            else:
                others.append(change)
        return others

    async def _finish(
        self, changes: Sequence[ObjectChange], renamed: Mapping[str, str], made: _Made, now: int
    ) -> Batch:
        completeness = self._steps.completeness
        for change in changes:
            if change.what is What.DELETED:  # a delete marker
                self._tell_gone(change, made, now)
        changes = [change for change in changes if change.what is not What.DELETED]
        judged = Judged(ready=changes) if completeness is None else await completeness.judge(changes, now)
        return await self._emit(judged, renamed, made, now)

    async def _emit(self, judged: Judged, renamed: Mapping[str, str], made: _Made, now: int) -> Batch:
        """Turn what is complete into events."""
        source, steps = self._source, self._steps
        made.seen += judged.seen
        ready = list(judged.ready)
        if steps.details:
            ready = await self._with_details(ready, made)
        found = await at_once(self._inspected, ready, steps.inspect_at_once) if steps.inspector is not None else None
        for n, one in enumerate(ready):
            inspected = found[n] if found is not None else Inspected()
            old = renamed.get(one.seen.key)
            change = as_told(one)
            what = What.RENAMED if old is not None else change.what
            more = {"from": old, "from_url": source.url(old)} if old is not None else {}
            event = self._scope.event(change, now, source.url(one.seen.key), more, what)
            listed = one.entry.detail if one.entry is not None else None
            if inspected.violation is not None and listed is not None:
                made.count("refused")
                made.letters.append(letter_of(event, inspected))
                made.seen.append(refused(one.seen, what))
                if steps.refuse is not None:
                    made.actions.append(steps.refuse(event, listed))
                continue
            made.seen.append(accepted(one.seen))
            if self._scope.tells(what):
                made.events.append(with_content(event, inspected))
                if steps.after is not None and listed is not None:
                    made.actions.append(steps.after(event, listed))
        for complete in judged.sets:
            await self._tell_set(complete, made, now)
        cursors = [*judged.cursors, *(steps.inspector.cursors() if steps.inspector is not None else ())]
        return _batch(made, cursors, judged.notices)

    async def _tell_set(self, complete: CompleteSet, made: _Made, now: int) -> None:
        """Turn a complete set into its event; one whose file breaks what is expected is refused as a whole."""
        members, steps = complete.members, self._steps
        more: dict[str, Mapping[str, object]] = {}
        broken: list[tuple[Listed, Inspected]] = []
        if steps.inspector is not None:
            found = await at_once(self._inspect, members, steps.inspect_at_once)
            more = {one.key: inspected.data for one, inspected in zip(members, found, strict=True)}
            broken = [(one, inspected) for one, inspected in zip(members, found, strict=True) if inspected.violation]
        event = self._scope.event_of_set(complete, now, {one.key: self._source.url(one.key) for one in members}, more)
        if broken:
            first, why = broken[0]
            others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
            made.count("refused")
            said = Inspected(violation=f"{first.key}: {why.violation}{others}", difference=why.difference)
            made.letters.append(letter_of(event, said))
            if steps.refuse is not None:
                made.actions += [steps.refuse(event, one) for one, _ in broken]
            return
        made.events.append(event)
        if steps.after is not None:
            made.actions += [steps.after(event, member) for member in members]

    async def _inspected(self, change: ObjectChange) -> Inspected:
        return Inspected() if change.entry is None else await self._inspect(change.entry.detail)

    async def _inspect(self, listed: Listed) -> Inspected:
        inspector = self._steps.inspector
        assert inspector is not None  # noqa: S101 - asked before
        key = listed.key

        async def read(start: int, length: int) -> bytes:
            return await self._source.read(key, start, length)

        try:
            return await inspector.inspect(key.rpartition("/")[2], listed.size, read)
        except BadPayload as error:  # this one object cannot be read; others can
            return Inspected({"error": str(error)}, str(error) if self._steps.expects else None, {"error": str(error)})

    async def _with_details(self, changes: Sequence[ObjectChange], made: _Made) -> list[ObjectChange]:
        """Look at each object for what a listing does not tell; one that changed meanwhile is left to the next look."""

        async def look(change: ObjectChange) -> Listed | None:
            try:
                return await self._source.head(change.seen.key, details=True)
            except BadPayload as error:
                made.count("unreadable")
                made.letters.append(DeadLetter("unreadable", str(error), change.seen.key))
                made.seen.append(change.seen)
                return None

        kept = []
        for change, listed in zip(changes, await at_once(look, changes, AT_ONCE), strict=True):
            if listed is not None and listed.token == change.seen.token:
                entry = Entry(listed.key, listed.token, listed.modified, listed)
                kept.append(Change(change.what, entry, change.seen))
            elif listed is not None:
                made.count("changed_meanwhile")
        return kept

    async def _lose(self, rows: Sequence[SeenObject], lookup: Lookup, made: _Made, now: int) -> None:
        """Tell of objects that are gone; not of those that we are taking away ourselves."""
        if not rows:
            return
        ours = await lookup.open_actions([row.key for row in rows]) if self._steps.after or self._steps.refuse else {}
        for change in _gone([row for row in rows if row.key not in ours], now):
            self._tell_gone(change, made, now)

    def _tell_gone(self, change: ObjectChange, made: _Made, now: int) -> None:
        made.seen.append(change.seen)
        if is_untold(change.seen):
            return
        if self._scope.tells(What.DELETED) and self._scope.counts_key(change.seen.key):
            made.events.append(self._scope.event(change, now, self._source.url(change.seen.key), {}))

    async def _dead(self, odd: Sequence[Listed], lookup: Lookup, now: int, made: _Made) -> None:
        """Report keys that cannot be stored, once for each version."""
        by_key = {odd_key(listed.key): listed for listed in odd}
        known = await lookup.seen(list(by_key))
        for key, listed in by_key.items():
            if key not in known or known[key].token != listed.token:
                shown = ascii(listed.key)[:1000]
                letter = DeadLetter("unreadable_name", f"the key {shown} cannot be stored as text; rename it", shown)
                made.letters.append(letter)
                made.seen.append(SeenObject(key, listed.token, 0, ODD, now, now))


def _batch(made: _Made, cursors: Sequence[Cursor] = (), notices: Sequence[Notice] = ()) -> Batch:
    return Batch(
        events=made.events,
        seen=made.seen,
        dead_letters=made.letters,
        actions=made.actions,
        counts=made.counts,
        cursors=cursors,
        notices=notices,
    )


def _gone(rows: Iterable[SeenObject], now: int) -> list[ObjectChange]:
    return vanished((row for row in rows if row.state != DELETED), now)


def _history(change: ObjectChange, position: Position) -> bool:
    """Say whether a change is what was there before the sensor's start, and so no event."""
    if change.entry is None or change.seen.incarnation:
        return False
    of_version = change.entry.detail.version or change.entry.detail.deleted
    if change.what is not What.CREATED and not of_version:  # of versions, all that were there before are history
        return False
    modified = change.entry.detail.modified
    if modified >= position.start // SECOND * SECOND:  # it may have been in the second of the start, but after it
        return False
    return position.silent(modified, modified)


def _reupload(change: ObjectChange) -> bool:
    """Say whether a new version has the content of the one before (etag and size)."""
    before, _, _ = change.before.rpartition("+")
    return change.what is What.OVERWRITTEN and bool(before) and before == change.seen.token.rpartition("+")[0]
