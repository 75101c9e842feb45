"""The completeness audit of an object storage: everything is listed once more, beside the sensor's own scans.

In flow the pages of a listing and what is remembered of the same keys, out flows a report. Memory is a page, or a
filter of fixed size where pages come in no order: it may then overlook one in a million of what is remembered and gone,
and never tells of one that is there.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.objects import Listed, ObjectSource
from sensors.adapters.position import Position
from sensors.audit import Audit, AuditReport
from sensors.batch import SeenObject
from sensors.listing import PRESENT, Entry
from sensors.ports import Lookup
from sensors.scan import KeyFilter, before_prefix

_ROWS: Final = 5_000
_LAST: Final = "\U0010ffff" * 4  # sorts behind whatever a key goes on with
_JITTER: Final = 1.1  # by which an interval may be longer than it says
_SKEW: Final = 60.0  # seconds by which the storage's clock may differ from ours


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the sensor comes to by itself. `now` is UTC micros, `every` the seconds between scans.

    `sets`: objects may wait for a marker, a manifest, or until they have settled.
    """

    now: int
    every: float
    position: Position
    sets: bool = False

    def waits(self, entry: Entry[Listed], known: SeenObject | None) -> str | None:
        """Say why an object that differs will be looked at without an audit; None when it will not."""
        modified = entry.detail.modified
        if not self.position.baseline:
            return "before `start`" if self.position.silent(modified, modified) else "the first scan is not complete"
        if modified >= self.now - round((self.every * _JITTER + _SKEW) * 1e6):
            return "it is newer than the last scan"
        return "it may not be complete" if self.sets else None


class ObjectAudit:
    """One audit of one source, which is open. `found` is told each key that differs, to have it looked at again."""

    def __init__(
        self, source: ObjectSource, scope: ObjectScope, horizon: Horizon, found: Callable[[str], None] | None
    ) -> None:
        self._source = source
        self._scope = scope
        self._now = horizon.now
        self._audit: Audit[Listed] = Audit(horizon.waits, found)
        self._filter = None if source.ordered else KeyFilter()

    async def run(self, lookup: Lookup) -> AuditReport:
        """Compare everything. Raises what the source raises."""
        prefixes = await self._source.shards(self._scope.prefixes(self._now))
        for prefix in prefixes:
            token: str | None = None
            after = before_prefix(prefix)
            while True:
                page = await self._source.page(prefix, token)
                await self._page(lookup, prefix, after, page.objects, last=page.next is None)
                if page.next is None:
                    break
                token = page.next
                after = page.objects[-1].key if page.objects else after
        if self._filter is not None:
            for prefix in prefixes:
                await self._sweep(lookup, prefix, self._filter)
        return self._audit.report

    async def _page(self, lookup: Lookup, prefix: str, after: str, objects: Sequence[Listed], *, last: bool) -> None:
        there = [listed for listed in objects if not listed.deleted]
        ignored: Counter[str] = Counter()
        wanted: dict[str, Listed] = {}
        for listed in there:
            why = self._scope.left_out(listed)
            if why is None:
                wanted.setdefault(listed.key, listed)
            else:
                ignored[why] += 1
        self._audit.count(len(there), ignored)
        if self._filter is not None:
            for listed in there:
                self._filter.add(listed.key)
            known = await lookup.seen(list(wanted)) if wanted else {}
        else:
            upto = prefix + _LAST if last else objects[-1].key if objects else after
            known = await self._beside(lookup, prefix, (after, upto), {listed.key for listed in there})
        tokens = {(listed.key, listed.token) for listed in there}
        self._audit.page(
            [
                Entry(key, listed.token, listed.modified, listed)
                for key, listed in wanted.items()
                if key not in known or known[key].state != PRESENT or (key, known[key].token) not in tokens
            ],
            known.values(),
        )

    async def _beside(
        self, lookup: Lookup, prefix: str, span: tuple[str, str], listed: set[str]
    ) -> dict[str, SeenObject]:
        """Read the memory beside a page, in parts; tell of what is not listed, and return what is remembered of it."""
        known: dict[str, SeenObject] = {}
        low, high = span
        while True:
            rows = await lookup.seen_range(low, high, _ROWS)
            mine = [row for row in rows if row.key.startswith(prefix)]
            known |= {row.key: row for row in mine if row.key in listed}
            self._audit.rows(mine)
            self._audit.gone(row for row in mine if row.key not in listed and self._gone(row))
            if len(rows) < _ROWS:
                return known
            low = rows[-1].key

    async def _sweep(self, lookup: Lookup, prefix: str, listed: KeyFilter) -> None:
        after = ""
        while rows := await lookup.seen_after(after, _ROWS, prefix):
            after = rows[-1].key
            self._audit.rows(rows)
            self._audit.gone(row for row in rows if row.key not in listed and self._gone(row))

    def _gone(self, row: SeenObject) -> bool:
        """Say whether an object that is not listed was remembered before we looked."""
        return row.state == PRESENT and row.last_changed < self._now
