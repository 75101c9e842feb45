"""The completeness audit of a tree of files: everything is walked once more, on a thread of its own.

In flow the pages of a walk and the memory of their files, then all that is remembered, page by page; out flows a
report. The sensor's own scan is neither waited for nor disturbed. Memory is one page.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sensors.adapters.directory import Found, Page
from sensors.adapters.judging import SKEW, Judge, path_of
from sensors.adapters.names import ODD, is_odd, odd_key, quoted, safe_path
from sensors.adapters.offloop import OffLoop
from sensors.adapters.tree import Tree
from sensors.audit import Audit, AuditReport
from sensors.batch import SeenObject
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.listing import PRESENT, Entry
from sensors.ports import Lookup

_PAGE: Final = 1000
_JITTER: Final = 1.1  # by which an interval may be longer than it says


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the sensor comes to by itself: files younger than its last scan. `interval` in seconds.

    `known` is False until the first scan is complete.
    """

    clock: Clock
    interval: float
    known: bool

    def waits(self, entry: Entry[Found], known: SeenObject | None) -> str | None:
        """Say why a file that differs will be looked at without an audit; None when it will not."""
        if not self.known:
            return "the first scan is not complete"
        since = self.clock.now() * 1000 - round((self.interval * _JITTER + SKEW) * 1e9)
        return "it is newer than the last scan" if entry.detail.ctime_ns >= since else None


@dataclass(slots=True)
class TreeAudit:
    """One audit of one tree."""

    tree: Tree
    judge: Judge
    horizon: Horizon
    _paths: dict[str, str] = field(default_factory=dict)  # of the page in hand, by key
    _left_out: Counter[str] = field(default_factory=Counter)

    async def run(self, thread: str, lookup: Lookup, found: Callable[[str], None] | None) -> AuditReport:
        """Compare everything; `found` is told the path of each file that differs. Raises NotConnected."""
        tell = None if found is None else lambda key: found(self._paths[key])
        audit: Audit[Found] = Audit(self.horizon.waits, tell, self._shown)
        off = OffLoop(thread)
        tree = self.tree.another(self._leave_out)
        try:
            await off.do(tree.open)
            await off.do(tree.begin, "", deep=True)
            done = False
            while not done:
                page = await off.do(tree.page, _PAGE)
                done = page.done
                await self._page(audit, page, lookup)
            await off.do(tree.end)
            await self._remembered(audit, tree, off, lookup)
        except OSError as error:
            raise NotConnected(f"{self.tree.path}: {error.strerror or error}") from error
        finally:
            if await off.rest(5.0):
                await off.do(tree.close)
            off.close()
        return audit.report

    def _leave_out(self, reason: str) -> None:
        self._left_out[reason] += 1

    async def _page(self, audit: "Audit[Found]", page: Page, lookup: Lookup) -> None:
        entries: list[Entry[Found]] = []
        self._paths = {}
        for one in page.files:
            if not self.judge.counts(one.path):
                self._left_out["pattern"] += 1
                continue
            key = odd_key(one.path) if is_odd(one.path) else safe_path(one.path)
            self._paths[key] = one.path
            entries.append(Entry(key, f"{one.size}+{one.mtime_ns}", one.mtime_ns // 1000, one))
        known: Mapping[str, SeenObject] = await lookup.seen(list(self._paths)) if self._paths else {}
        audit.page(entries, known.values())
        audit.count(len(page.files), {**self._left_out, "no regular file": page.ignored})
        self._left_out.clear()
        if page.errors:
            audit.fail(f"{self.tree.path}: not everything can be looked at: " + "; ".join(page.messages))

    async def _remembered(self, audit: "Audit[Found]", tree: Tree, off: OffLoop, lookup: Lookup) -> None:
        """Look at each remembered file; a deletion that the sensor has made known meanwhile is none here."""
        after = ""
        while rows := await lookup.seen_range(after, None, _PAGE):
            after = rows[-1].key
            audit.rows(rows)
            paths = {path_of(row): row for row in rows if row.state == PRESENT}
            if not paths:
                continue
            checked = await off.do(tree.check, list(paths))
            if checked.failed.errors:
                audit.fail(f"{self.tree.path}: not everything can be looked at: " + "; ".join(checked.failed.messages))
            gone = [paths[path] for path in checked.gone]
            still = await lookup.seen([row.key for row in gone]) if gone else {}
            self._paths = {row.key: path_of(row) for row in gone}
            audit.gone(row for row in gone if row.key in still and still[row.key].state == PRESENT)

    def _shown(self, key: str) -> str:
        return quoted(self._paths[key]) if key.startswith(ODD) else key
