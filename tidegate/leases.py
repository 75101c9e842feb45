"""Leases of sensors: of all replicas, one reads a source that should be asked once; the others stand by.

In flow the sensors that this process would read; out flow calls that say which of them are its own now, and who reads
the others. A lease is a row beside the sensor's positions: its epoch is the fencing token that every batch carries, its
value names the holder and until when. The database's clock rules. A holder that stands still loses its lease after its
end and a grace, and what it still brings afterwards is refused: the token protects, not the timer.

One task renews all leases of a process in one write. Rows of others are only looked at, without a lock, so a replica
that is frozen within a transaction holds up nobody who merely waits for its leases.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sensors.batch import Batch, Cursor, Fence
from sensors.clock import SECOND, Clock
from sensors.errors import NotConnected
from sensors.ports import Inbox, Stored, Unavailable
from tidegate.store.records import CursorRow
from tidegate.store.tx import Store, Tx

LEASE: Final = "!lease"  # the shard of a sensor's positions where its lease is; no kind has one of that name
WAITING: Final = "waiting for its lease"
_VERSION: Final = 1
_log = logging.getLogger("tidegate.leases")
Tell = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """What a process asks: to renew `held` (sensor -> epoch), to have `take`, to be rid of `release`. Seconds."""

    holder: str
    lease: float
    grace: float
    held: Mapping[str, int] = field(default_factory=dict)
    take: Sequence[str] = ()
    release: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """What it has now (sensor -> epoch), and who has what it asked for and has not."""

    held: Mapping[str, int]
    others: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Lease:
    """What a row says. `until` is UTC micros of the database; 0: it was given back."""

    holder: str
    until: int


class Renew:
    """The write that renews, takes and gives back leases."""

    name = "leases"

    def __call__(self, tx: Tx, items: Sequence[LeaseAsk]) -> Sequence[LeaseAnswer]:
        """Answer each ask in turn."""
        names = {name for ask in items for name in (*ask.held, *ask.take, *ask.release)}
        rows = dict(tx.lock_cursors([(name, LEASE) for name in sorted(names)])) if names else {}
        return [_answer(tx, ask, rows) for ask in items]


def _answer(tx: Tx, ask: LeaseAsk, rows: dict[tuple[str, str], CursorRow]) -> LeaseAnswer:
    now = tx.now()
    until = now + round(ask.lease * SECOND)
    held: dict[str, int] = {}
    others: dict[str, str] = {}

    def write(name: str, epoch: int, end: int) -> None:
        text = _text(_Lease(ask.holder, end))
        tx.put_cursors(name, [Cursor(LEASE, text)])
        rows[name, LEASE] = CursorRow(name, LEASE, text, epoch)

    for name, epoch in sorted(ask.held.items()):
        row = rows.get((name, LEASE))
        if row is not None and row.epoch == epoch:
            write(name, epoch, until)
            held[name] = epoch
        else:
            others[name] = _read(row).holder
    for name in sorted(ask.take):
        lease = _read(rows.get((name, LEASE)))
        if lease.until and lease.holder != ask.holder and lease.until + round(ask.grace * SECOND) > now:
            others[name] = lease.holder
            continue
        epoch = tx.raise_epoch(name, LEASE).epoch
        write(name, epoch, until)
        held[name] = epoch
    for name, epoch in sorted(ask.release.items()):
        row = rows.get((name, LEASE))
        if row is not None and row.epoch == epoch:
            write(name, epoch, 0)
    return LeaseAnswer(held, others)


@dataclass(slots=True)
class _Wanted:
    """A sensor that this process would read: whom to tell, what was told last, and what was seen of its row."""

    tell: Tell
    told: str | None = WAITING
    epoch: int | None = None  # of our lease; None: it is not ours
    seen: tuple[str, int] = ("", -1)
    since: float = 0.0  # when the row was seen first as it is


class Leases:
    """All leases of one process. `run` is one task; all else is called on the same loop."""

    def __init__(self, store: Store, holder: str, clock: Clock, lease: float, grace: float) -> None:
        self._store = store
        self._clock = clock
        self._renew = Renew()
        self._ask = LeaseAsk(holder, lease, grace)
        self._wanted: dict[str, _Wanted] = {}
        self._release: dict[str, int] = {}  # what was dropped and is still to be given back
        self._wake = asyncio.Event()

    def want(self, sensor: str, tell: Tell) -> None:
        """Strive for a lease. `tell` is called with None when it is ours, and with a sentence when it is not."""
        self._wanted[sensor] = _Wanted(tell)
        self._wake.set()

    def wants(self, sensor: str) -> bool:
        """Say whether this process strives for a lease, or has it."""
        return sensor in self._wanted

    def drop(self, sensor: str) -> None:
        """Strive no longer; a lease that is ours is given back soon, so that another replica need not wait."""
        wanted = self._wanted.pop(sensor, None)
        if wanted is not None and wanted.epoch is not None:
            self._release[sensor] = wanted.epoch
            self._wake.set()

    async def give_back(self) -> None:
        """Give back at once what was dropped; where that cannot be done now, it ends by itself."""
        release, self._release = self._release, {}
        if release:
            try:
                await self._store.submit(self._renew, replace(self._ask, release=release))
            except Unavailable as error:
                _log.debug("leases could not be given back and will end: %s", error)

    def epoch(self, sensor: str) -> int | None:
        """Return the fencing token of a lease that is ours, None where it is not."""
        wanted = self._wanted.get(sensor)
        return None if wanted is None else wanted.epoch

    async def run(self) -> None:
        """Renew and take; for ever, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.give_back()
                await self._round()
            except Unavailable as error:
                _log.debug("leases wait for the store: %s", error)
            except Exception as error:  # noqa: BLE001 - the next round must come: without leases nothing is read
                _log.exception("leases could not be renewed: %s", error, extra={"action": "leases_failed"})
            await self._pause(self._ask.lease / 4)

    async def _round(self) -> None:
        held = {name: one.epoch for name, one in self._wanted.items() if one.epoch is not None}
        take = await self._free([name for name in self._wanted if name not in held])
        if not held and not take:
            return
        asked = {name: self._wanted[name] for name in (*held, *take) if name in self._wanted}
        answer = await self._store.submit(self._renew, replace(self._ask, held=held, take=take))
        for name, wanted in asked.items():
            if self._wanted.get(name) is not wanted:  # dropped meanwhile, or wanted anew
                if name in answer.held:
                    self._release.setdefault(name, answer.held[name])
                    self._wake.set()
                continue
            wanted.epoch = answer.held.get(name)
            self._say(name, wanted, None if name in answer.held else answer.others.get(name, ""))

    async def _free(self, names: Sequence[str]) -> list[str]:
        """Return those leases that might be had: nobody has them, or their holder has not renewed them in time.

        A holder's own end is compared by this machine's clock first, which may be wrong: the write asks again by the
        database's. A row that has stood still for a whole lease is tried whatever the clocks say.
        """
        if not names:
            return []
        rows = await self._store.read(lambda reader: {name: reader.cursors(name) for name in names})
        patience, now = self._ask.lease + self._ask.grace, self._clock.now()
        free = []
        for name in names:
            wanted = self._wanted.get(name)
            if wanted is None:
                continue
            row = next((row for row in rows[name] if row.shard == LEASE), None)
            lease = _read(row)
            look = (lease.holder, lease.until)
            if look != wanted.seen:
                wanted.seen, wanted.since = look, self._clock.monotonic()
            ended = lease.until + round(self._ask.grace * SECOND) <= now
            mine = lease.holder == self._ask.holder
            if ended or mine or self._clock.monotonic() - wanted.since >= patience:
                free.append(name)
            else:
                self._say(name, wanted, lease.holder)
        return free

    def _say(self, name: str, wanted: _Wanted, holder: str | None) -> None:
        """Tell a sensor whether it is its turn (None), or who has it."""
        said = None if holder is None else f"read by {holder or 'another replica'}"
        if said == wanted.told:
            return
        if said is None:
            _log.info("sensor %s is read here now", name, extra={"action": "lease_taken", "sensor": name})
        elif wanted.told is None:
            _log.warning("sensor %s is %s now", name, said, extra={"action": "lease_lost", "sensor": name})
        wanted.told = said
        wanted.tell(said)

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleep, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()


class LeasedInbox:
    """The inbox of one sensor under a lease: its batches carry the token that was in force when it connected."""

    def __init__(self, inbox: Inbox, leases: Leases, sensor: str) -> None:
        self._inbox = inbox
        self._leases = leases
        self._sensor = sensor
        self._epoch: int | None = None

    async def put(self, sensor: str, batch: Batch, parent: str | None = None) -> Stored:
        """Store the batch; it is stale when the lease has gone to another."""
        if self._epoch is None:
            return Stored((), stale=True)
        return await self._inbox.put(sensor, replace(batch, lease=Fence(LEASE, self._epoch)), parent)

    async def cursors(self, sensor: str) -> Mapping[str, Cursor]:
        """Return the positions: asked for before each connect, which is when the token is taken."""
        self._epoch = self._leases.epoch(self._sensor)
        if self._epoch is None:
            raise NotConnected("another replica reads this source")
        return await self._inbox.cursors(sensor)


def _text(lease: _Lease) -> str:
    return json.dumps({"v": _VERSION, "holder": lease.holder, "until": lease.until}, separators=(",", ":"))


def _read(row: CursorRow | None) -> _Lease:
    """Read a row; what says nothing, or what another version wrote in another form, has no holder."""
    if row is None or not row.value:
        return _Lease("", 0)
    try:
        value: Any = json.loads(row.value)
        return _Lease(str(value["holder"]), int(value["until"]))
    except (ValueError, KeyError, TypeError):
        return _Lease("", 0)
