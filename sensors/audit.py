"""The completeness audit: what a source holds against what is remembered of it, told and not acted upon.

In flow pages of a listing with what is remembered beside them, out flows a report: exact counts, and the first keys of
each finding with a reason. Memory is one page, whatever there is. Nothing is written; healing is handing what was found
to the sensor, which looks at it as if it had just been told of it.

Where pages come in key order, memory is read beside them, range by range (`page`, `beside`): one pass finds everything.
Where they do not, a page is compared with the memory of its own keys, and what is remembered and not there is found
by a second pass over what is remembered (`rows`, then `gone`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from sensors.batch import SeenObject
from sensors.listing import DELETED, PRESENT, Entry

D = TypeVar("D")
SHOWN: Final = 100  # findings of each kind that are told by name


class NotAuditable(Exception):
    """This kind of sensor remembers no objects, so there is nothing to compare."""


class AuditBusy(Exception):
    """An audit of this sensor is under way; there is one at a time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One object, and why it is told of."""

    key: str
    reason: str


@dataclass(slots=True)
class Findings:
    """All objects of one sort: how many, and the first of them."""

    count: int = 0
    first: list[Finding] = field(default_factory=list)

    def add(self, key: str, reason: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(Finding(key, reason))


@dataclass(slots=True)
class AuditReport:
    """What an audit found.

    `listed` are all objects at the source, `remembered` those that are believed to be there. `missing` are listed,
    wanted and not remembered; `extra` are remembered and not listed; `changed` are another version than remembered.
    `waiting` counts those that the sensor will come to by itself, `ignored` those that it leaves out, by reason.
    `healed` says how many were handed to the sensor to look at. `problem` is a sentence when not everything could be
    looked at.
    """

    listed: int = 0
    remembered: int = 0
    missing: Findings = field(default_factory=Findings)
    extra: Findings = field(default_factory=Findings)
    changed: Findings = field(default_factory=Findings)
    waiting: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    healed: int = 0
    problem: str = ""


class Audit(Generic[D]):
    """An audit under way. Pure: it looks at nothing by itself.

    `waits` says of an entry that differs why the sensor will come to it by itself, None when it will not. `found` is
    told of each key that is missing, changed or extra, to heal it. `shown` turns a key into what people read.
    """

    def __init__(
        self,
        waits: Callable[[Entry[D], SeenObject | None], str | None],
        found: Callable[[str], None] | None = None,
        shown: Callable[[str], str] = str,
    ) -> None:
        self.report = AuditReport()
        self._waits = waits
        self._found = found
        self._shown = shown

    def page(self, entries: Iterable[Entry[D]], rows: Iterable[SeenObject]) -> None:
        """Compare the wanted entries of a page with what is remembered of their keys."""
        known = {row.key: row for row in rows}
        for entry in entries:
            self._listed(entry, known.get(entry.key))

    def beside(self, rows: Iterable[SeenObject], listed: Collection[str]) -> None:
        """Compare what is remembered in a page's range of keys with all the keys that the page lists."""
        found = list(rows)
        self.rows(found)
        self.gone(row for row in found if row.state == PRESENT and row.key not in listed)

    def count(self, listed: int, ignored: Mapping[str, int]) -> None:
        """Count all objects of a page, and those of them that are left out, by reason."""
        self.report.listed += listed
        for reason, n in ignored.items():
            if n:
                self.report.ignored[reason] = self.report.ignored.get(reason, 0) + n

    def rows(self, rows: Iterable[SeenObject]) -> None:
        """Count what is remembered as present."""
        self.report.remembered += sum(row.state == PRESENT for row in rows)

    def gone(self, rows: Iterable[SeenObject]) -> None:
        """Tell of remembered objects that are not there."""
        for row in rows:
            self._tell(self.report.extra, row.key, "it is remembered and is not there")

    def fail(self, problem: str) -> None:
        """Say that not everything could be looked at; the first reason is kept."""
        self.report.problem = self.report.problem or problem

    def _listed(self, entry: Entry[D], known: SeenObject | None) -> None:
        if known is not None and known.state != DELETED and known.token == entry.token:
            return
        why = self._waits(entry, known)
        if why is not None:
            self.report.waiting[why] = self.report.waiting.get(why, 0) + 1
        elif known is None:
            self._tell(self.report.missing, entry.key, "it was never seen")
        elif known.state == DELETED:
            self._tell(self.report.missing, entry.key, "it is there again after it was deleted")
        else:
            self._tell(self.report.changed, entry.key, f"it is {entry.token}, and {known.token} is remembered")

    def _tell(self, findings: Findings, key: str, reason: str) -> None:
        findings.add(self._shown(key), reason)
        if self._found is not None:
            self._found(key)
            self.report.healed += 1
