"""What was found in a tree, against what is remembered of it: which of it are events, dead letters, or nothing.

In flow pages of files, and paths where none is any more; out flows what must become durable together. A file that is
still changing is kept in mind and nothing else; names that cannot be told in text become dead letters, once each.
"""

import fnmatch
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import orjson

from sensors.adapters.directory import Found
from sensors.adapters.names import ODD, is_odd, odd_key, quoted, safe_path, unquoted, unsafe_path
from sensors.adapters.position import Position
from sensors.adapters.refusing import accepted, as_told, is_refused, is_untold
from sensors.adapters.settling import Settling
from sensors.batch import Batch, DeadLetter, SeenObject
from sensors.clock import Clock
from sensors.event import Event
from sensors.listing import PRESENT, Change, Entry, What, compare, vanished
from sensors.patterns import Pattern
from sensors.ports import Lookup
from sensors.uid import EVENT, new_uid

MAX_SETTLING = 10_000
SKEW = 60.0  # seconds by which a file server's clock may differ from ours
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which files of which tree count. `path` is the root, absolute; `wanted` are the changes that become events."""

    sensor: str
    path: str
    pattern: Pattern | None
    recursive: bool
    ignore: Sequence[str]
    wanted: frozenset[What]
    settle: float


@dataclass(slots=True)
class Looked:
    """What was found: files, paths where no file is, and remembered objects that are gone."""

    files: list[Found] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    swept: list[SeenObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found out: `batch` must become durable; `unknown` paths are gone and were never known as files.

    `found` are the files of the events, by event id; `refused` are files still there that were refused as they are.
    """

    batch: Batch
    unknown: Sequence[str]
    found: Mapping[str, Found]
    refused: Sequence[Found]


class Judge:
    """Judges pages of one tree. Keeps only the files that are still changing."""

    def __init__(self, scope: Scope, clock: Clock) -> None:
        self._scope = scope
        self._clock = clock
        self._source = f"file://{socket.gethostname()}{quote(scope.path)}"
        self._ignores = re.compile("|".join(map(fnmatch.translate, scope.ignore)) or r"(?!)")
        self.settling = Settling(scope.settle, MAX_SETTLING)
        self.deferred = False  # more files are changing than are kept in mind; only another scan finds the rest

    def skips(self, name: str) -> bool:
        """Say whether a file or folder of this name is left out."""
        return self._ignores.match(name) is not None

    def enters(self, folder: str) -> bool:
        """Say whether anything below a folder could count."""
        pattern = self._scope.pattern
        return pattern is None or pattern.may_hold(_shown(folder))

    def passes_by(self, folder: str) -> bool:
        """Say whether nothing below a folder of the tree is ever looked at."""
        if not self._scope.recursive or any(self.skips(name) for name in folder.split("/")):
            return True
        return not self.enters(folder)

    def counts(self, path: str) -> bool:
        """Say whether a file of this path counts."""
        if (not self._scope.recursive and "/" in path) or any(self.skips(name) for name in path.split("/")):
            return False
        return self._scope.pattern is None or self._scope.pattern.match(_shown(path)) is not None

    async def judge(self, looked: Looked, position: Position, lookup: Lookup) -> Judged:
        """Return what must become durable, and what else was found out."""
        entries: list[Entry[Found]] = []
        odd: dict[str, Found] = {}
        for found in looked.files:
            if not self.counts(found.path):
                continue
            if is_odd(found.path):
                odd[odd_key(found.path)] = found
            else:
                entries.append(Entry(safe_path(found.path), _token(found), found.mtime_ns // 1000, found))
        lost = {odd_key(path) if is_odd(path) else safe_path(path): path for path in looked.gone}
        keys = [*(entry.key for entry in entries), *odd, *lost]
        known = await lookup.seen(keys) if keys else {}
        now = self._clock.now()
        changes = self._settled(entries, known, position, now)
        missing = {o.key: o for o in looked.swept}
        unknown: list[str] = []
        for key, path in lost.items():
            self.settling.drop(path)
            if key in known:
                missing[key] = known[key]
            else:
                unknown.append(path)
        deletions: list[Change[Found]] = vanished((o for k, o in missing.items() if not k.startswith(ODD)), now)
        told = [change for change in changes if not _history(change, position)]
        told += [c for c in deletions if self.counts(unsafe_path(c.seen.key)) and not is_untold(c.seen)]
        changes += deletions
        events = [change for change in map(as_told, told) if change.what in self._scope.wanted]
        memory = {change.seen.key: change.seen for change in changes}
        memory |= {c.seen.key: accepted(c.seen) for c in events if memory[c.seen.key] is c.seen}
        letters, strange = _dead(odd, known, now)
        batch = Batch(
            events=[self._event(change, now) for change in events],
            seen=[*memory.values(), *strange],
            forget=[key for key in missing if key.startswith(ODD)],
            dead_letters=letters,
        )
        files = {change.id: change.entry.detail for change in events if change.entry is not None}
        refused = [entry.detail for entry in entries if _stays_refused(known.get(entry.key), entry.token)]
        return Judged(batch, unknown, files, refused)

    def _settled(
        self, entries: Sequence[Entry[Found]], known: Mapping[str, SeenObject], position: Position, now: int
    ) -> list[Change[Found]]:
        """Return the changes of files that have stopped changing; the others wait."""
        changes: list[Change[Found]] = []
        changed = compare(entries, known, now)
        monotonic = self._clock.monotonic()
        quiet = now * 1000 - round((self._scope.settle + SKEW) * 1e9)
        for change in changed:
            if change.entry is None:
                continue
            found = change.entry.detail
            # The kernel sets ctime with every change of size or mtime, so an old one says that all is at rest.
            if _history(change, position) or max(found.ctime_ns, found.mtime_ns) < quiet:
                self.settling.drop(found.path)
                changes.append(change)
                continue
            verdict = self.settling.offer(found.path, (found.size, found.mtime_ns), monotonic)
            self.deferred |= verdict == "full"
            if verdict == "settled":
                changes.append(change)
        if len(self.settling) and len(changed) < len(entries):
            differing = {change.seen.key for change in changed}
            for entry in entries:  # back to the version that is remembered
                if entry.key not in differing:
                    self.settling.drop(entry.detail.path)
        return changes

    def _event(self, change: Change[Found], now: int) -> Event:
        key = change.seen.key
        size, _, mtime_ns = change.seen.token.partition("+")
        path = f"{self._scope.path}/{unsafe_path(key)}"
        micros = int(mtime_ns) // 1000
        data = {
            "path": path,
            "name": path.rpartition("/")[2],
            "size": int(size),
            "mtime": _rfc3339(micros),
            "url": f"file://{quote(path)}",
        }
        pattern = self._scope.pattern
        return Event(
            sensor=self._scope.sensor,
            id=change.id,
            uid=new_uid(EVENT, now),
            source=self._source,
            type=str(change.what),
            received_at=now,
            subject=key,
            time=None if change.what is What.DELETED else micros,
            data=orjson.dumps(data),
            content_type="application/json",
            match=(pattern.match(key) if pattern else None) or {},
        )


def path_of(known: SeenObject) -> str:
    """Return the path, relative to the root, of a remembered object."""
    return unquoted(json.loads(known.extra)["path"]) if known.key.startswith(ODD) else unsafe_path(known.key)


def _token(found: Found) -> str:
    return f"{found.size}+{found.mtime_ns}"


def _shown(path: str) -> str:
    return quoted(path) if is_odd(path) else safe_path(path)


def _rfc3339(micros: int) -> str | None:
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:  # a file may claim any time
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _stays_refused(known: SeenObject | None, token: str) -> bool:
    if known is None or not known.extra:
        return False
    return known.state == PRESENT and known.token == token and is_refused(known)


def _history(change: Change[Found], position: Position) -> bool:
    """Say whether a change is what was there before the sensor's start, and so no event."""
    if change.what is not What.CREATED or change.entry is None or change.seen.incarnation:
        return False
    found = change.entry.detail
    return position.silent(found.mtime_ns // 1000, found.ctime_ns // 1000)


def _dead(
    odd: Mapping[str, Found], known: Mapping[str, SeenObject], now: int
) -> tuple[list[DeadLetter], list[SeenObject]]:
    """Report names that cannot be told in text: once each, until they are gone."""
    letters: list[DeadLetter] = []
    strange: list[SeenObject] = []
    for key, found in odd.items():
        if key not in known:
            name = quoted(found.path)
            detail = f"the path {name[:1000]} is not UTF-8, or longer than 1024 bytes; rename the file"
            letters.append(DeadLetter("unreadable_name", detail, name[:1000], os.fsencode(found.path)))
            strange.append(SeenObject(key, _token(found), 0, PRESENT, now, now, json.dumps({"path": name})))
    return letters, strange
