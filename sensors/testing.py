"""The test kit for sensors: time that a test moves, stores in memory, requests, and the contract of a kind.

Nothing here needs the service. `check_sensor` runs the contract on a kind of yours:

    async def test_my_kind(tmp_path):
        options = {"path": str(tmp_path), "start": "beginning"}
        events = await check_sensor(KIND, options, base=tmp_path, stimulate=drop_a_file)
"""

import asyncio
import bisect
import heapq
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from sensors.batch import Batch, Cursor, DeadLetter, ObjectAction, SeenObject
from sensors.clock import Clock, SystemClock
from sensors.event import Event, storable_text
from sensors.hosts import Hosts, Outgoing
from sensors.kind import SensorContext, SensorKind
from sensors.netguard import NetGuard
from sensors.ports import Owned, Receipt, Stored, WantsAll
from sensors.sensor import PushSensor, Request, Sensor

LOOPBACK = ("127.0.0.0/8", "::1/128")
_SETTLE = 64  # turns of the loop after which tasks that only pass things on among themselves have come to rest


class VirtualClock:
    """A clock that stands still until a test moves it. `sleep` ends in `advance`, in the order of its due time."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        """Start at `now` (UTC microseconds)."""
        self._start = now
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> int:
        """Return the wall time in UTC microseconds."""
        return self._start + round(self._elapsed * 1_000_000)

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced."""
        return self._elapsed

    @property
    def sleeping(self) -> int:
        """Return how many tasks sleep now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far; at or below zero yield once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the time; wake sleepers one due time after the other, letting tasks come to rest in between."""
        target = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due = self._sleepers[0][0]
            self._elapsed = max(self._elapsed, due)
            while self._sleepers and self._sleepers[0][0] <= due:
                future = heapq.heappop(self._sleepers)[2]
                if not future.done():
                    future.set_result(None)
            await settle()
        self._elapsed = target
        await settle()


async def settle() -> None:
    """Let the tasks of the loop run until they have nothing left to do but wait (for time, threads or the network)."""
    for _ in range(_SETTLE):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait in real time until a condition holds, for what threads and the file system do. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - nobody could set an event: threads and the file system do the work
            await asyncio.sleep(0.005)


class FakeInbox:
    """An inbox and its memory: keeps what became durable, drops repeats of ids, and fails when told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[Batch] = []
        self.dead_letters: list[DeadLetter] = []
        self.counts: dict[str, int] = {}
        self.duplicates = 0
        self.failures: list[Exception] = []  # raised by the next puts, one each
        self.stale = False  # answer the next put as stale
        self.runs: dict[str, str] = {}  # event uid -> `accepted`, `succeeded` or `failed`: how its runs stand
        self._ids: dict[tuple[str, str], str] = {}
        self.unwanted: dict[tuple[str, str], int] = {}
        self._cursors: dict[str, dict[str, Cursor]] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._seen: dict[str, dict[str, SeenObject]] = {}
        self._actions: dict[str, dict[str, ObjectAction]] = {}

    async def put(self, sensor: str, batch: Batch, parent: str | None = None) -> Stored:
        """Keep the batch, or fail as told."""
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if self.stale:
            self.stale = False
            return Stored((), stale=True)
        if any(self._epochs.get((sensor, fence.shard)) != fence.epoch for fence in batch.fences):
            return Stored((), stale=True)
        receipts: list[Receipt] = []
        for event in batch.events:
            first = self._ids.get((sensor, event.id))
            receipts.append(Receipt(event.uid if first is None else first, duplicate=first is not None))
            if first is None:
                self._ids[sensor, event.id] = event.uid
                self.events.append(event)
            else:
                self.duplicates += 1
        self.batches.append(batch)
        self.dead_letters += batch.dead_letters
        for outcome, n in batch.counts.items():
            self.counts[outcome] = self.counts.get(outcome, 0) + n
        for name, n in batch.unwanted.items():
            self.unwanted[name] = self.unwanted.get(name, 0) + n
        self._cursors.setdefault(sensor, {}).update({cursor.shard: cursor for cursor in batch.cursors})
        self._keep_actions(sensor, batch, receipts)
        memory = self._seen.setdefault(sensor, {})
        memory.update({seen.key: seen for seen in batch.seen})
        for key in batch.forget:
            memory.pop(key, None)
        return Stored(receipts)

    def _keep_actions(self, sensor: str, batch: Batch, receipts: Sequence[Receipt]) -> None:
        new = {event.uid: not got.duplicate for event, got in zip(batch.events, receipts, strict=True)}
        kept = self._actions.setdefault(sensor, {})
        kept.update({a.uid: a for a in batch.actions if new.get(a.event, a.when == "now")})
        for uid in batch.actions_done:
            kept.pop(uid, None)

    async def cursors(self, sensor: str) -> Mapping[str, Cursor]:
        """Return the durable positions."""
        return dict(self._cursors.get(sensor, {}))

    def lookup(self, sensor: str) -> "FakeLookup":
        """Return the memory of one sensor, as it is at each question."""
        return FakeLookup(
            self._seen.setdefault(sensor, {}),
            self._actions.setdefault(sensor, {}),
            self.runs,
            uid_of=lambda name: self._ids.get((sensor, name)),
            take=lambda shards: self._own(sensor, shards),
        )

    def _own(self, sensor: str, shards: Sequence[str]) -> Mapping[str, Owned]:
        for shard in shards:
            self._epochs[sensor, shard] = self._epochs.get((sensor, shard), 0) + 1
        known = self._cursors.get(sensor, {})
        return {shard: Owned(shard, self._epochs[sensor, shard], known.get(shard)) for shard in shards}


@dataclass(slots=True)
class FakeLookup:
    """A memory of objects by key, of actions by uid, and of how the runs of events stand (`FakeInbox.runs`).

    `uid_of` gives the uid of an event by its id.
    `take` makes a shard this sensor's; without one every shard is new, and owned for the first time.
    """

    objects: dict[str, SeenObject] = field(default_factory=dict)
    actions: dict[str, ObjectAction] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    uid_of: Callable[[str], str | None] = field(default=lambda _: None, repr=False)
    take: Callable[[Sequence[str]], Mapping[str, Owned]] | None = None
    _order: list[str] = field(default_factory=list, repr=False)
    _reached: str | None = field(default=None, repr=False)

    async def own(self, shards: Sequence[str]) -> Mapping[str, Owned]:
        """Take ownership of shards."""
        if self.take is not None:
            return self.take(shards)
        return {shard: Owned(shard, 1, None) for shard in shards}

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return what is remembered of at most 5,000 keys."""
        require(len(keys) <= 5000, "a lookup is asked for at most 5,000 keys")
        return {key: self.objects[key] for key in keys if key in self.objects}

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        """Return present objects in key order (by UTF-8 bytes)."""
        if key != self._reached:  # the first page of a sweep; those after it share its order
            self._order = sorted(self.objects)  # code points sort as UTF-8 bytes do
        found: list[SeenObject] = []
        for name in itertools.islice(self._order, bisect.bisect_right(self._order, key), None):
            known = self.objects.get(name)
            if known is not None and known.state == "present" and name.startswith(prefix):
                found.append(known)
                if len(found) >= limit:
                    break
        self._reached = found[-1].key if found else None
        return found

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        """Return objects of any state in key order (by UTF-8 bytes)."""
        names = (name for name in self.objects if name > after and (upto is None or name <= upto))
        return [self.objects[name] for name in heapq.nsmallest(limit, names)]

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        """Return actions whose time has come, oldest first."""
        stands = {"now": ("",), "accepted": ("accepted", "succeeded"), "succeeded": ("succeeded",)}
        due = [a for a in self.actions.values() if a.when == "now" or self.runs.get(a.event) in stands[a.when]]
        return sorted(due, key=lambda action: action.uid)[:limit]

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        """Return the actions on at most 5,000 keys, oldest first."""
        require(len(keys) <= 5000, "a lookup is asked for at most 5,000 keys")
        found: dict[str, list[ObjectAction]] = {}
        for action in sorted(self.actions.values(), key=lambda action: action.uid):
            if action.key in keys:
                found.setdefault(action.key, []).append(action)
        return found

    async def known(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the uids of at most 5,000 ids."""
        require(len(ids) <= 5000, "a lookup is asked for at most 5,000 ids")
        return {name: uid for name in ids if (uid := self.uid_of(name)) is not None}

    async def unfinished(self, events: Sequence[str]) -> AbstractSet[str]:
        """Return which of at most 5,000 events have a run under way."""
        require(len(events) <= 5000, "a lookup is asked for at most 5,000 events")
        return {event for event in events if self.runs.get(event) == "accepted"}


class EverythingWanted(WantsAll):
    """A prefilter that skips nothing."""


def make_request(
    body: bytes = b"{}",
    headers: Mapping[str, str | Sequence[str]] | None = None,
    *,
    method: str = "POST",
    path: str = "/hooks/test",
    query: str = "",
    received_at: int = 1_800_000_000_000_000,
) -> Request:
    """Return a request; header names are lowered, one text is one value. JSON unless a content type is given."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    given.setdefault("content-type", "application/json")
    return Request(
        method=method,
        path=path,
        query=query,
        headers={name: [value] if isinstance(value, str) else list(value) for name, value in given.items()},
        body=body,
        client="192.0.2.1",
        received_at=received_at,
    )


class ContractBroken(AssertionError):
    """A kind does not keep the sensor contract; the sentence says which promise."""


def require(condition: bool, promise: str) -> None:
    """Raise ContractBroken unless the promise is kept."""
    if not condition:
        raise ContractBroken(promise)


def check_kind(kind: SensorKind, options: Mapping[str, Any], context: SensorContext) -> Sensor | PushSensor:
    """Check what a kind declares, and return a sensor built from the options. Raises ContractBroken."""
    require(kind.name.isascii() and kind.name == kind.name.lower(), "a kind's name is lower-case ASCII")
    require(bool(kind.help.strip()), "a kind has a help text")
    require(bool(kind.emits.types), "a kind says which event types it emits")
    require(set(kind.emits.sample) >= {"id", "source", "type"}, "the sample event has id, source and type")
    require(_declared(kind, str(kind.emits.sample["type"])), "the sample's type is among the declared ones")
    require(bool(kind.options.model_json_schema()), "the options have a JSON schema")
    model = kind.options.model_validate(options)
    try:
        kind.options.model_validate({**options, "no_such_option": 1})
    except ValidationError:
        pass
    else:
        raise ContractBroken("unknown options are refused")
    return kind.build(model, context)


def check_event(kind: SensorKind, sensor: str, event: Event) -> None:
    """Check one event's form. Raises ContractBroken."""
    require(event.sensor == sensor, "an event names its sensor")
    require(event.uid.startswith("evt_") and len(event.uid) == 30, "an event has a uid from sensors.uid")
    require(bool(event.id) and storable_text(event.id), "an event's id is text that may be stored")
    require(len(event.id.encode()) <= 2048, "an event's id is at most 2 KiB")
    require(bool(event.source) and bool(event.type), "an event has source and type")
    require(_declared(kind, event.type), f"the type {event.type!r} is among the declared ones")
    require(event.subject is None or storable_text(event.subject), "an event's subject may be stored")
    require(isinstance(event.received_at, int), "moments are whole microseconds")
    for name, value in (*event.attributes.items(), *event.match.items()):
        require(storable_text(name) and storable_text(value), "attributes and captures may be stored")


async def check_sensor(
    kind: SensorKind,
    options: Mapping[str, Any],
    *,
    base: Path,
    stimulate: Callable[[], Awaitable[None]] | None = None,
    requests: Sequence[Request] = (),
    clock: Clock | None = None,
    compile: Callable[[str, tuple[str, ...]], Callable[[Mapping[str, Any]], Any]] | None = None,
    template: Callable[[Any, tuple[str, ...]], Callable[[Mapping[str, Any]], Any]] | None = None,
    within: float = 10.0,
) -> Sequence[Event]:
    """Run the contract on a kind and return the events it made. Raises ContractBroken with the broken promise.

    A pull kind is connected, stimulated (make the source have something new) and read until there are events; another
    instance then starts from what became durable and must bring nothing twice. A push kind receives the requests.
    """
    clock = clock or SystemClock()
    near = Outgoing(NetGuard(LOOPBACK), Hosts(clock))  # a test's server is on this machine
    context = SensorContext(kind.name, "kit", clock, base, {}, compile, template, near)
    sensor = check_kind(kind, options, context)
    inbox = FakeInbox()
    if kind.push:
        for request in requests:
            batch = await cast("PushSensor", sensor).receive(request)
            require(not batch.empty, "a request that is not refused makes something durable")
            await inbox.put(kind.name, batch)
    else:
        await _check_pull(kind, cast("Sensor", sensor), inbox, stimulate, within)
        count = len(inbox.events)
        again = cast("Sensor", kind.build(kind.options.model_validate(options), context))
        await _read_some(kind, again, inbox, within=min(within, 1.0), until=lambda: False)
        require(len(inbox.events) == count, "after a restart nothing that became durable is new again")
    for event in inbox.events:
        check_event(kind, kind.name, event)
    return inbox.events


async def _check_pull(
    kind: SensorKind, sensor: Sensor, inbox: FakeInbox, stimulate: Callable[[], Awaitable[None]] | None, within: float
) -> None:
    if stimulate is not None:
        await stimulate()
    await _read_some(kind, sensor, inbox, within=within, until=lambda: bool(inbox.events))
    require(stimulate is None or bool(inbox.events), "what the source has becomes events")


async def _read_some(
    kind: SensorKind, sensor: Sensor, inbox: FakeInbox, *, within: float, until: Callable[[], bool]
) -> None:
    await sensor.connect(await inbox.cursors(kind.name), inbox.lookup(kind.name), EverythingWanted())
    try:
        async with asyncio.timeout(within):
            while not until():
                batch = await sensor.read()
                if not batch.empty:
                    await inbox.put(kind.name, batch)
                await batch.ack()
    except TimeoutError:
        pass
    finally:
        await sensor.close()


def _declared(kind: SensorKind, type_: str) -> bool:
    return any(
        declared == type_ or (declared.endswith("*") and type_.startswith(declared[:-1]))
        for declared in kind.emits.types
    )
