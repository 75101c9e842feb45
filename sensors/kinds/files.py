"""Files in a directory tree: those dropped, overwritten and deleted, also while the service was down.

In flow the operating system's change notices, which are only hints, and the answers of a reconciling scan at the start
and at an interval, which is the truth; out flow pages of events with the memory of each file. A notice makes a targeted
look at its path; both ways lead to the same event with the same id. A file is an event only when its size and times
have not changed for `settle`. Unchanged files write nothing. Deletions are concluded only after a scan without an
error.

Order: none is promised between files; the events of one file come in the order in which it was seen.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field, field_validator

from sensors.adapters.agenda import MAX_FOLDERS, Agenda, Chore
from sensors.adapters.content_options import ContentOptions, ViolationOptions
from sensors.adapters.contents import make_inspector
from sensors.adapters.file_contents import FileContents
from sensors.adapters.hints import Hints, Told
from sensors.adapters.judging import Judge, Looked, Scope, path_of
from sensors.adapters.names import safe_path
from sensors.adapters.notices import MakeWatcher, Notices
from sensors.adapters.offloop import OffLoop
from sensors.adapters.position import Position, take_up
from sensors.adapters.quarantine import Quarantine
from sensors.adapters.refusing import look_again
from sensors.adapters.tree import Checked, RootChanged, Rules, Tree
from sensors.adapters.tree_audit import Horizon, TreeAudit
from sensors.audit import AuditReport
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.errors import NotConnected
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.listing import What
from sensors.patterns import compile_pattern
from sensors.peeking import peek_by_reading
from sensors.polling import Alarm, Interval
from sensors.ports import Lookup, Prefilter
from sensors.sensor import Sensor
from sensors.units import Duration, Start

PAGE = 1000
SHARD = ""
_IDLE = 60.0
_TYPES = {"created": What.CREATED, "modified": What.OVERWRITTEN, "deleted": What.DELETED}


class FilesOptions(ContentOptions, SensorOptions):
    """Options of `kind: files`."""

    kind: Literal["files"] = "files"
    path: str = Field(min_length=1, description="the directory, relative to the configuration file")
    create: bool = Field(False, description="make the directory when it is missing; not for what may be unmounted")
    pattern: str | None = Field(None, description="over the path below it: {name} captures, * any text, ** any depth")
    recursive: bool = Field(True, description="look into folders below (a pattern says by itself how deep)")
    start: Start = Field(description="which files that are there at first are events: now (none), beginning (all), …")
    settle: Duration = Field(1.0, description="how long size and times must not have changed")
    every: Duration = Field(60.0, ge=0.1, description="how often everything is compared, whatever was noticed")
    on: tuple[Literal["created", "modified", "deleted"], ...] = Field(("created", "modified"), min_length=1)
    ignore: tuple[str, ...] = Field(
        (".*", "*.tmp", "*.part", "*.crdownload", "*~"), description="names of files and folders to leave out"
    )
    follow_symlinks: Literal[False] = Field(False, description="links are never followed: they lead out of the tree")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            compile_pattern(value)
        return value


class Files:
    """The pull sensor. See the module's docstring; the runner calls it, one call at a time.

    `notices` makes what tells of changes.
    """

    def __init__(self, options: FilesOptions, context: SensorContext, notices: MakeWatcher = Notices) -> None:
        self._options, self._context = options, context
        self._sensor = context.name
        self._clock = context.clock
        self._path = os.path.abspath(context.base / options.path)  # noqa: PTH100 - resolve() would touch the disk
        self._scope = Scope(
            context.name,
            self._path,
            compile_pattern(options.pattern) if options.pattern else None,
            options.recursive,
            options.ignore,
            frozenset(_TYPES[name] for name in options.on),
            options.settle,
        )
        self._judge = Judge(self._scope, context.clock)
        self._tree = Tree(self._path, Rules(self._judge.skips, self._judge.enters, options.recursive), options.create)
        self._off = OffLoop(f"files-{context.name}")
        self._contents = FileContents(
            make_inspector(options),
            self._quarantine(context),
            self._tree,
            self._off,
            self._look_again,
            expects=options.expect is not None,
        )
        self._page = self._contents.page or PAGE
        self._alarm = Alarm(context.clock)
        self._interval = Interval(context.clock, options.every)
        self._agenda = Agenda()
        self._position = Position("", 0, 0)
        self._greeting: Batch | None = None
        self._lookup: Lookup | None = None
        self._hints = Hints(context.name, self._path, self._judge.skips, context.clock, notices)
        self._root = ""
        self._ignored = 0
        self._trouble: str | None = None
        self._distrusted = False  # another directory stands where the root was: what is missing in it proves nothing

    # -- the sensor contract ------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Open the tree, arm the notices, and have a whole scan done first."""
        if self._off.busy:
            raise NotConnected(f"{self._path}: the file system has not answered yet; is it a mount that hangs?")
        try:
            self._root = await self._off.do(self._tree.open)
        except OSError as error:
            raise NotConnected(f"{self._path}: {error.strerror}; create it, or correct `path`") from error
        self._lookup = lookup
        self._agenda = Agenda()
        self._judge.settling.clear()
        self._position, todo = take_up(cursors.get(SHARD), self._options, self._clock.now())
        self._contents.take_up(cursors)
        self._distrusted = self._position.root not in ("", self._root)
        self._greeting = Batch(cursors=(self._cursor(),)) if todo == "store" else None
        if todo == "forget":
            self._agenda.add(Chore("forget"))  # the new position is stored when that is done
        self._agenda.scan()
        self._interval.restart()
        try:
            await self._hints.start(Told(self._agenda, self._interval, self._alarm))
        except BaseException:
            await self.close()
            raise

    async def read(self) -> Batch:
        """Wait for something to look at, look at a page of it, and return what it means."""
        if self._greeting is not None:
            batch, self._greeting = self._greeting, None
            return batch
        if not self._has_work():
            await self._alarm.wait(min(_IDLE, self._patience()))
            if not self._has_work():
                return Batch()
        return await self._work()

    async def close(self) -> None:
        """Stop the notices and let go of the tree; a call that hangs is left to end by itself."""
        self._hints.stop()
        if await self._off.rest(5.0):
            await self._off.do(self._tree.close)
            self._off.close()

    def poll(self) -> None:
        """Scan everything now."""
        self._agenda.overflowed = True
        self._alarm.ring()

    def trouble(self) -> str | None:
        """Return what the last scan could not do."""
        return self._trouble or self._contents.trouble()

    async def audit(self, heal: bool) -> AuditReport:
        """Compare what is there with what is remembered; see `sensors.polling.Auditable`."""
        options, known = self._options, self._position.baseline
        audit = TreeAudit(self._tree, self._judge, Horizon(self._clock, options.every + options.settle, known))
        return await audit.run(f"audit-{self._sensor}", self._memory(), self._look_again if heal else None)

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Look without making the folder or moving a file; see `sensors.polling.Peekable`."""
        expect = self._options.expect
        if expect is not None:
            expect = expect.model_copy(update={"on_violation": ViolationOptions()})
        options = self._options.model_copy(update={"create": False, "expect": expect})
        return await peek_by_reading(Files(options, self._context), cursors, lookup, limit, self._clock)

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Have a refused file judged anew; see `sensors.retrying.Retryable`."""
        return await look_again(letter, lookup)

    # -- what to do next ----------------------------------------------------------------------------------------------
    def _has_work(self) -> bool:
        due = self._judge.settling.next_due()
        if due is not None and due <= self._clock.monotonic():
            return True
        return bool(self._agenda) or self._agenda.overflowed or self._interval.remaining() <= 0

    def _patience(self) -> float:
        due = self._judge.settling.next_due()
        rest = self._interval.remaining()
        return rest if due is None else min(rest, max(0.0, due - self._clock.monotonic()))

    async def _work(self) -> Batch:
        agenda = self._agenda
        if (agenda.overflowed or self._interval.remaining() <= 0) and not agenda.scanning:
            agenda.scan()
            self._interval.restart()
        checked = await self._check()
        looked = Looked(checked.files, [] if self._distrusted else checked.gone)
        told = Batch()
        if agenda.chores:
            chore = agenda.chores[0]
            told = await (self._walk(chore, looked) if chore.kind == "walk" else self._sweep(chore, looked))
        judged = await self._judge.judge(looked, self._position, self._memory())
        batch = await self._contents.weigh(judged)
        for path in judged.unknown:
            if self._hints.known(path) and path not in checked.folders:  # it is gone, with all that was in it
                agenda.add(Chore("sweep", safe_path(path) + "/"))
        return replace(
            batch,
            cursors=[*batch.cursors, *told.cursors],
            counts={**batch.counts, **told.counts},
            forget=[*batch.forget, *told.forget],
        )

    async def _check(self) -> Checked:
        """Look at the files that should have settled, and at the paths that were hinted at."""
        agenda, settling = self._agenda, self._judge.settling
        waiting = settling.due(self._clock.monotonic(), self._page)
        paths = list(dict.fromkeys((*waiting, *agenda.take_hints(self._page))))
        if not paths:
            return Checked()
        try:
            checked = await self._off.do(self._tree.check, paths)
        except RootChanged:
            settling.clear()
            agenda.overflowed = True
            return Checked()
        except OSError as error:
            raise NotConnected(f"{self._path}: {error.strerror}") from error
        if checked.failed.errors:  # what cannot be looked at is left to the scan, which says so
            agenda.overflowed = True
            answered = {*(found.path for found in checked.files), *checked.gone}
            for path in waiting:
                if path not in answered:
                    settling.drop(path)
        for folder in checked.folders:
            if self._options.recursive and self._judge.enters(folder):
                agenda.add(Chore("walk", folder))
        return checked

    # -- chores -------------------------------------------------------------------------------------------------------
    async def _walk(self, chore: Chore, looked: Looked) -> Batch:
        if not chore.begun:
            chore.begun = True
            try:
                if chore.full:
                    self._root = await self._off.do(self._tree.open)
                await self._off.do(self._tree.begin, chore.at, deep=chore.deep)
            except OSError as error:
                raise NotConnected(f"{self._path}: {error.strerror}; create it, or correct `path`") from error
        page = await self._off.do(self._tree.page, self._page)
        chore.files += len(page.files)
        chore.ignored += page.ignored
        chore.errors += page.errors
        chore.messages = [*chore.messages, *page.messages][:3]
        chore.folders.update(page.folders[: MAX_FOLDERS - len(chore.folders)])
        looked.files += page.files
        if not page.done:
            return Batch()
        self._agenda.chores.popleft()
        await self._off.do(self._tree.end)
        return await self._walked(chore)

    async def _walked(self, chore: Chore) -> Batch:
        """A walk is complete: watch what it found, and after a whole one look for deletions."""
        self._hints.learn(chore.folders, all_of_them=chore.full)
        if not chore.full:
            self._agenda.overflowed |= chore.errors > 0
            return Batch()
        counts = {"ignored": chore.ignored - self._ignored} if chore.ignored > self._ignored else {}
        self._ignored = chore.ignored
        if self._interval.remaining() <= 0:  # a scan that takes longer than the interval leaves a pause
            self._interval.restart()
        if chore.errors:
            self._trouble = f"{self._path}: {chore.errors} errors while scanning, so deletions are not looked for: " + (
                "; ".join(chore.messages)
            )
        elif await self._looks_unmounted(chore):
            self._distrusted = True
            self._trouble = f"{self._path} is another directory than before, and empty; is something not mounted?"
        else:
            self._agenda.chores.appendleft(Chore("sweep", full=True))
        return Batch(counts=counts)

    async def _looks_unmounted(self, chore: Chore) -> bool:
        if chore.files or self._position.root in ("", self._root):
            return False
        return bool(await self._memory().seen_after("", 1))

    async def _sweep(self, chore: Chore, looked: Looked) -> Batch:
        """Look for what is remembered and gone, a page of memory at a time; `forget` drops the memory instead."""
        chore.begun = True
        known = await self._memory().seen_after(chore.after, PAGE, chore.at)
        if not known:
            self._agenda.chores.popleft()
            if chore.kind == "forget":
                return Batch(cursors=(self._cursor(),))
            return self._scanned() if chore.full else Batch()
        chore.after = known[-1].key
        if chore.kind == "forget":
            return Batch(forget=tuple(o.key for o in known))
        paths = {path_of(o): o for o in known}
        try:
            checked = await self._off.do(self._tree.check, list(paths))
        except OSError as error:
            raise NotConnected(f"{self._path}: {error.strerror or error}") from error
        if checked.failed.errors:
            self._agenda.chores.popleft()
            self._trouble = f"{self._path}: deletions cannot be looked for: " + "; ".join(checked.failed.messages)
            return Batch()
        looked.swept += [paths[path] for path in checked.gone]
        return Batch()

    def _scanned(self) -> Batch:
        """A whole scan ended without an error."""
        self._contents.scanned()
        self._trouble, self._distrusted = None, False
        self._hints.calm(self._options.every)
        if self._judge.deferred:
            self._judge.deferred = False
            self._interval.restart(min(self._options.every, max(1.0, self._options.settle)))
        position = self._position.done(self._root)
        if position == self._position:
            return Batch()
        self._position = position
        return Batch(cursors=(self._cursor(),))

    def _look_again(self, path: str) -> None:
        self._agenda.hint(path)
        self._alarm.ring()

    def _quarantine(self, context: SensorContext) -> Quarantine | None:
        expect = self._options.expect
        if expect is None or expect.on_violation.move is None:
            return None
        path = os.path.abspath(context.base / expect.on_violation.move)  # noqa: PTH100 - resolve() would touch the disk
        return Quarantine(path, self._path, self._judge.passes_by)

    def _memory(self) -> Lookup:
        if self._lookup is None:
            raise NotConnected("not connected")
        return self._lookup

    def _cursor(self) -> Cursor:
        return Cursor(SHARD, self._position.to_json())


def build(options: FilesOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened."""
    return Files(options, context)


KIND = SensorKind(
    name="files",
    help="files dropped, overwritten or deleted in a directory tree, on a local or mounted file system",
    options=FilesOptions,
    build=build,
    emits=Emits(
        types={
            "object.created": "a file is there that was not there before",
            "object.overwritten": "the size or modification time of a file changed",
            "object.deleted": "a file is gone (with `on: [deleted]`)",
        },
        subject="the path below `path`; control characters are percent-escaped",
        time="the file's modification time; none for a deletion",
        data="JSON: path (absolute), name, size (bytes), mtime (RFC 3339), url; of a deletion the last known; with "
        "`inspect` or `expect` also format, schema (list of name and type), rows (where rows_exact), compression; or "
        "error where it cannot be read as what it claims to be",
        attributes="none",
        sample={
            "id": "acme-2026-01-31.csv@1204+1769839200000000000#0",
            "source": "file://host/srv/inbox",
            "type": "object.created",
            "subject": "acme-2026-01-31.csv",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {
                "path": "/srv/inbox/acme-2026-01-31.csv",
                "name": "acme-2026-01-31.csv",
                "size": 1204,
                "mtime": "2026-01-31T06:00:00.000000Z",
                "url": "file:///srv/inbox/acme-2026-01-31.csv",
            },
            "match": {"customer": "acme", "day": "2026-01-31"},
        },
    ),
)
