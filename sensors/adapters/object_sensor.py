"""The sensor on object storage: a listing that is the truth, and notifications that say where to look now.

In flow pages of a source's listing, at an interval, and the messages of a queue, where there is one; out flow batches.
Both are fetched ahead while the batch before is made durable. Messages come first; they are deleted only after what
they told of is durable, and hidden from others for as long as that takes. A scan that is interrupted by a restart goes
on where it was; deletions are concluded only from what a scan without an error has not listed.

Order: none is promised between objects; the events of one object come in the order in which its versions were seen.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sensors.adapters.after import work_off
from sensors.adapters.object_audit import Horizon, ObjectAudit
from sensors.adapters.object_hints import sort_hints
from sensors.adapters.object_judge import ObjectJudge, Steps
from sensors.adapters.object_look import Look, read_scan, scan_text
from sensors.adapters.object_queue import Incoming, QueueReader
from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.objects import Listed, ObjectSource
from sensors.adapters.position import Position, ScanOptions, take_up
from sensors.adapters.refusing import look_again
from sensors.adapters.together import at_once
from sensors.audit import AuditReport
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.clock import Clock
from sensors.errors import BackOff, BadPayload, NotConnected, SensorError
from sensors.peeking import peek_by_reading
from sensors.polling import Alarm, Interval
from sensors.ports import Lookup, Prefilter
from sensors.scan import Scan, Shard

POSITION: Final = ""  # the shard of the position
SCAN: Final = "scan"  # the shard of a scan under way
_SAVE_EVERY = 30.0  # seconds after which a scan that finds nothing new stores where it is
_SWEEP = 1_000
_PART = 200  # objects that are judged at once where each is read: what was read must become durable in time
_ACT_AGAIN = 30.0  # the same after it could not be done
_ACT_EVERY = 1.0  # seconds between two questions whether something is to be done to objects
_IDLE = 60.0


@dataclass(frozen=True, slots=True)
class Doors:
    """What a sensor is made of besides its scope. `options` decide about the position, `parallel` about the listing."""

    source: ObjectSource
    queue: QueueReader | None
    clock: Clock
    every: float
    options: ScanOptions
    parallel: int = 1


class ObjectSensor:
    """The pull sensor. See the module's docstring; the runner calls it, one call at a time."""

    def __init__(self, scope: ObjectScope, doors: Doors, steps: Steps) -> None:
        self._scope = scope
        self._doors = doors
        self._steps = steps
        self._source = doors.source
        self._clock = doors.clock
        self._judge = ObjectJudge(scope, doors.source, steps, doors.clock)
        self._alarm = Alarm(doors.clock)
        self._interval = Interval(doors.clock, doors.every)
        self._looks: deque[Look] = deque()
        self._lookup: Lookup | None = None
        self._position = Position("", 0, 0)
        self._first: deque[Batch] = deque()
        self._forgetting = ""
        self._acts = steps.after is not None or steps.refuse is not None
        self._act_next = 0.0
        self._act_trouble: str | None = None
        self._polled = False
        self._turn = 0  # which of the ways to a batch is asked first
        self._saved_at = 0.0
        self._saved = False  # whether the place of a scan is stored

    # -- the sensor contract ------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Reach the source; take up position, and the scan that was under way, or begin one."""
        position, todo = take_up(cursors.get(POSITION), self._doors.options, self._clock.now())
        await self._source.open()
        self._lookup, self._position = lookup, position
        for step in (self._steps.completeness, self._steps.inspector):
            if step is not None:
                step.take_up({} if todo == "forget" else cursors)
        self._first.clear()
        self._looks.clear()
        if todo == "store":
            self._first.append(Batch(cursors=(self._position_cursor(),)))
        self._act_next = self._clock.monotonic()  # what was begun before a crash is finished before anything is listed
        self._forgetting = "forget" if todo == "forget" else ""
        self._saved_at, self._saved = self._clock.monotonic(), SCAN in cursors
        try:
            await self._begin(None if todo == "forget" else cursors.get(SCAN))
        except BaseException:
            await self._source.close()
            raise
        if self._doors.queue is not None:
            self._doors.queue.start(self._alarm.ring)

    async def read(self) -> Batch:
        """Wait for something to judge, and return what it means."""
        if self._forgetting:
            return await self._forget()
        if self._first:
            return self._first.popleft()
        batch = await self._work()
        if batch is None:
            await self._alarm.wait(self._patience())
            batch = await self._work()
        return batch or Batch()

    async def close(self) -> None:
        """Let go of source and queue."""
        for look in self._looks:
            await look.cancel()
        self._looks.clear()
        if self._doors.queue is not None:
            await self._doors.queue.close()
        await self._source.close()

    async def audit(self, heal: bool) -> AuditReport:
        """Compare the listing with what is remembered; `heal` has what differs looked at at once."""
        if self._lookup is None:
            raise NotConnected("the sensor has not reached its source yet, so there is nothing to compare")
        sets = self._steps.completeness is not None
        horizon = Horizon(self._clock.now(), self._doors.every, self._position, sets)
        audit = ObjectAudit(self._source, self._scope, horizon, (lambda _: None) if heal else None)
        report = await audit.run(self._lookup)
        if report.healed:
            self.poll()
        return report

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """List, and leave the queue and all objects alone; see `sensors.polling.Peekable`."""
        steps = replace(self._steps, after=None, refuse=None)
        quiet = ObjectSensor(self._scope, replace(self._doors, queue=None), steps)
        return await peek_by_reading(quiet, cursors, lookup, limit, self._clock)

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Have a refused object judged anew; see `sensors.retrying.Retryable`."""
        return await look_again(letter, lookup)

    @property
    def looking(self) -> bool:
        """Say whether a listing is under way."""
        return bool(self._looks)

    def poll(self) -> None:
        """Scan everything now, or as soon as the scan under way has ended."""
        self._polled = True
        self._interval.restart(0.0)
        self._alarm.ring()

    def lag(self) -> float | None:
        """Return about how many messages wait in the queue."""
        return self._doors.queue.waiting() if self._doors.queue is not None else None

    def trouble(self) -> str | None:
        """Return what is wrong although objects are being listed."""
        queue, completeness = self._doors.queue, self._steps.completeness
        if queue is not None and queue.trouble is not None:
            return queue.trouble
        return (completeness.trouble() if completeness is not None else None) or self._act_trouble

    # -- what to do next ----------------------------------------------------------------------------------------------
    async def _work(self) -> Batch | None:
        """Do the most urgent thing; None when there is nothing to be done now."""
        if self._acts and self._act_next <= self._clock.monotonic() and (batch := await self._act()) is not None:
            return batch
        ways = (self._hear, self._due, self._go_on)
        for n in range(len(ways)):  # in turn: whoever sends messages without end must not stop all else
            batch = await ways[(self._turn + n) % len(ways)]()
            if batch is not None:
                self._turn = (self._turn + n + 1) % len(ways)
                return batch
        return None

    async def _act(self) -> Batch | None:
        """Do to objects what their runs allow; where that cannot be done now, all else goes on."""
        wait = _ACT_EVERY
        try:
            batch = await work_off(self._memory(), self._source, self._clock.now())
        except SensorError as error:
            self._act_trouble = f"what is to be done to objects cannot be done now: {error}"
            wait = error.wait if isinstance(error, BackOff) else _ACT_AGAIN
        else:
            self._act_trouble = None
            if not batch.empty:
                for look in self._looks:  # a page that was listed before knows less than we do
                    for seen in batch.seen:
                        look.touch(seen.key)
                return batch
        self._act_next = self._clock.monotonic() + wait
        return None

    async def _hear(self) -> Batch | None:
        """Work on the messages that came."""
        queue = self._doors.queue
        if queue is None or (incoming := queue.take()) is None:
            return None
        try:
            return await self._told(incoming)
        except BaseException:
            queue.give_back(incoming)
            raise

    async def _due(self) -> Batch | None:
        """Judge what waited until now."""
        completeness = self._steps.completeness
        due = completeness.next_due() if completeness is not None else None
        if due is not None and due <= self._clock.monotonic():
            return await self._judge.due()
        return None

    async def _go_on(self) -> Batch | None:
        """Judge the next page."""
        if self._interval.remaining() <= 0 and not any(look.full for look in self._looks):
            await self._begin(None)
        if not self._looks:
            return None
        look = self._looks[0]
        if look.scan.done:
            return await self._sweep(look)
        return await self._page(look)

    def _patience(self) -> float:
        wait = min(_IDLE, self._interval.remaining()) if not any(look.full for look in self._looks) else _IDLE
        if self._acts:
            wait = min(wait, max(0.0, self._act_next - self._clock.monotonic()))
        due = self._steps.completeness.next_due() if self._steps.completeness is not None else None
        return wait if due is None else min(wait, max(0.0, due - self._clock.monotonic()))

    # -- listings -----------------------------------------------------------------------------------------------------
    async def _begin(self, cursor: Cursor | None) -> None:
        """Begin a whole scan, or go on with the one that a former process had under way."""
        within = self._scope.prefixes(self._clock.now())
        shards = [Shard(prefix) for prefix in await self._source.shards(within)]
        begun, whole = self._clock.now(), True
        if cursor is not None and (former := read_scan(cursor.value)) is not None:
            begun, whole = former.begun, False
            for shard in shards:
                shard.done, shard.token, shard.after = former.shards.get(shard.prefix, (False, None, ""))
                if self._source.ordered:
                    shard.token = None
        scan: Scan[Listed] = Scan(begun, self._source.ordered, shards, whole, within)
        self._looks.append(Look(scan, full=True, resumed=not whole))
        self._polled = False
        self._interval.restart()
        self._fetch()

    def _fetch(self) -> None:
        """Keep pages coming: of so many shards at once, one page ahead each."""
        if not self._looks:
            return
        self._looks[0].fetch(self._source, self._doors.parallel, self._alarm.ring, self._clock.now())

    async def _page(self, look: Look) -> Batch | None:
        """Judge the next page that has come."""
        self._fetch()
        try:
            taken = look.take(_PART if self._steps.inspector is not None else None)
        except NotConnected:
            if not look.resumed:
                raise
            # the place where a former process was may not be one to go on from any more
            return await self._begin_anew(look)
        if taken is None:
            return None
        if look.scan.ordered and not self._source.ordered:  # the source has just noticed
            return await self._begin_anew(look)
        look.resumed = False
        self._fetch()
        try:
            batch = await self._judge.page(
                look.scan, taken, self._memory(), self._position, quiet=look.quiet_before(taken.shard.prefix)
            )
        except BaseException:
            look.put_back(taken)
            raise
        return self._with_progress(batch, look)

    async def _begin_anew(self, look: Look) -> Batch:
        """Drop a scan under way and begin another one."""
        await look.cancel()
        self._looks.remove(look)
        await self._begin(None)
        return Batch(cursors=(Cursor(SCAN, ""),))

    def _with_progress(self, batch: Batch, look: Look) -> Batch:
        """Add where the scan is, with what it found, or every now and then."""
        if not look.full or (batch.empty and self._clock.monotonic() - self._saved_at < _SAVE_EVERY):
            return batch
        self._saved_at, self._saved = self._clock.monotonic(), True
        return replace(batch, cursors=[*batch.cursors, Cursor(SCAN, scan_text(look.scan))])

    async def _sweep(self, look: Look) -> Batch:
        """Everything was listed: tell of what is remembered and was not there, then end the scan."""
        rows, all_of_them = await look.scan.missing(self._memory(), _SWEEP)
        left = tuple(hint.old_key for hint in look.folders)  # left as a whole, and told as a whole
        quiet = [row for row in rows if left and row.key.startswith(left)]
        batch = await self._judge.vanished([row for row in rows if row not in quiet], self._memory())
        if quiet:
            more = await self._judge.vanished(quiet, self._memory(), silent=True)
            batch = replace(batch, seen=[*batch.seen, *more.seen])
        if not all_of_them:
            return batch
        self._looks.popleft()
        self._fetch()
        if not look.full:
            told = [self._scope.event_of_folder(hint, self._clock.now()) for hint in look.folders]
            batch = replace(batch, events=[*batch.events, *told])
            return look.settles.settled(batch) if look.settles is not None else batch
        if self._polled:  # asked for while this one was under way
            self._interval.restart(0.0)
        elif look.scan.again:
            self._interval.restart(min(self._doors.every, 1.0))
        elif self._interval.remaining() <= 0:  # a scan that takes longer than the interval leaves a pause
            self._interval.restart()
        cursors = [*batch.cursors, Cursor(SCAN, "")] if self._saved else list(batch.cursors)
        self._saved = False
        if not self._position.baseline:
            self._position = self._position.done("")
            cursors.append(self._position_cursor())
        return replace(batch, cursors=cursors)

    # -- notifications ------------------------------------------------------------------------------------------------
    async def _told(self, incoming: Incoming) -> Batch:
        """Look at what messages name; the messages go when what they told of is durable."""
        now = self._clock.now()
        prefixes = self._scope.prefixes(now)
        told = sort_hints(incoming.hints, self._scope, prefixes)
        dead, keys = incoming.dead, told.keys
        for look in self._looks:
            for key in keys:
                look.touch(key)
        if self._steps.versions:
            pages = await at_once(self._versions_of, list(told.hints))
            objects = [listed for page in pages for listed in page]
            batch = await self._judge.versions(objects, self._memory(), self._position)
        else:
            heads = dict(zip(keys, await at_once(self._head, keys), strict=True))
            found = {key: head for key, head in heads.items() if not isinstance(head, DeadLetter)}
            batch = await self._judge.looked(found, told.hints, self._memory(), self._position)
            dead += [head for head in heads.values() if isinstance(head, DeadLetter)]
        counts = {**batch.counts, **({"ignored": told.ignored} if told.ignored else {})}
        batch = replace(batch, counts=counts, dead_letters=[*batch.dead_letters, *dead])
        if not told.folders:
            return incoming.settled(batch)
        shards = [Shard(place) for place in told.places]
        look = Look(Scan(now, ordered=False, shards=shards), full=False, settles=incoming)
        look.folders = [hint for hint in told.folders if hint.old_key] if self._steps.folders else []
        if self._looks:
            await self._looks[0].cancel()  # it goes on afterwards
        self._looks.appendleft(look)
        self._fetch()
        return batch  # the messages are settled with the end of the look

    async def _head(self, key: str) -> Listed | DeadLetter | None:
        """Look at a key; what concerns this one alone is a dead letter, for the others go on."""
        try:
            return await self._source.head(key)
        except BadPayload as error:
            return DeadLetter("unreadable", str(error), key)

    async def _versions_of(self, key: str) -> list[Listed]:
        """List all versions of one key: a later one may be there already, and an earlier one not told of."""
        found: list[Listed] = []
        token: str | None = None
        while True:
            page = await self._source.page(key, token)
            found += [listed for listed in page.objects if listed.key == key]
            token = page.next
            if token is None or any(listed.key > key for listed in page.objects):
                return found

    # -- memory -------------------------------------------------------------------------------------------------------
    async def _forget(self) -> Batch:
        """Forget everything, a page at a time, before the new position is stored."""
        rows = await self._memory().seen_range("", None, _SWEEP)
        if rows:
            return Batch(forget=[row.key for row in rows])
        self._forgetting = ""
        return Batch(cursors=(self._position_cursor(), Cursor(SCAN, "")))

    def _memory(self) -> Lookup:
        if self._lookup is None:
            raise NotConnected("not connected")
        return self._lookup

    def _position_cursor(self) -> Cursor:
        return Cursor(POSITION, self._position.to_json())
