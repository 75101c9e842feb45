"""The dispatcher: claims runs under a lease, drives them, renews the leases, lets go of what is lost.

In flow hints that something may be waiting (`wake`, after an ingest), requests to cancel, and time; out flow claims,
one renewal for all runs every third of a lease, and the steps of each run's driver. Runs are claimed oldest first, as
the store orders them; runs overlap. One claim is in flight at a time and the hints that come meanwhile become one more,
so that a flood of events costs no flood of claims; a poll every `poll` seconds finds what no hint told of.

Stopping is soft first: nothing more is claimed or started, attempts under way may end. What has not ended in time is
stopped (or left to the next holder, where the engine survives us) and its lease is released.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

from pipelines.driver import Driver
from pipelines.hands import DispatchSettings, Doors, Hands, ReadyDefinition, make_ready
from pipelines.logbook import LogBook
from pipelines.pools import Pools
from pipelines.ports import Claimed, Engine, Observer, RunStore
from sensors.clock import Clock
from sensors.ports import Unavailable

logger = logging.getLogger(__name__)

READY_DEFINITIONS = 256  # definitions kept compiled
SOON = 0.02  # seconds after a run's end in which more ends share one claim
WAITED = 250_000  # µs in the queue after which a run counts as one that had to wait
RENEW_AGAIN = 1.0  # seconds after a renewal that the store could not take, at most
AFTER_YOU = 0.2  # seconds that claims wait for the steps of runs whose lease ended while the store was away
KILL_WITHIN = 5.0  # seconds that stopped work has at the end of a hard stop


class Dispatcher:
    """Runs what is queued. `start`, then `wake` and `cancel_hint` at will, then `stop`. Call from the loop's thread."""

    def __init__(
        self,
        holder: str,
        store: RunStore,
        engines: Mapping[str, Engine],
        observer: Observer,
        clock: Clock,
        settings: DispatchSettings | None = None,
        doors: Doors | None = None,
    ) -> None:
        """`holder` names this process in leases: a name that no other process, past or present, has."""
        self._holder = holder
        self._store = store
        self._clock = clock
        self._settings = settings or DispatchSettings()
        doors = doors or Doors()
        self._hands = Hands(
            store=store,
            engines=engines,
            observer=observer,
            clock=clock,
            doors=doors,
            logs=LogBook(store, clock),
            pools=Pools(doors.pools),
        )
        self._active: dict[str, Driver] = {}
        self._going: set[Driver] = set()  # let go or replaced, not ended yet
        self._by_pipeline: dict[str, int] = {}
        self._ready: OrderedDict[str, ReadyDefinition] = OrderedDict()
        self._hint = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._lapsed: set[Driver] = set()  # let go because their lease could not be renewed
        self._complaints: set[str] = set()
        self._given_up: list[str] = []  # runs whose leases are to be released
        self._giving_up = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._stopping = False
        self._full = False

    @property
    def active(self) -> int:
        """How many runs this process holds."""
        return len(self._active)

    @property
    def stopping(self) -> bool:
        """Say whether a stop was asked for."""
        return self._stopping

    def start(self) -> None:
        """Begin to claim. Call once."""
        loop = asyncio.get_running_loop()
        flushing = self._hands.logs.keep_flushing
        for work in (self._keep_claiming, self._keep_polling, self._keep_renewing, self._keep_releasing, flushing):
            self._loops.append(loop.create_task(self._for_ever(work)))
        self._hint.set()

    def wake(self) -> None:
        """Hint that runs may be waiting. Costs next to nothing; call it after each ingest."""
        self._hint.set()

    def cancel_hint(self, run: str, reason: str = "") -> None:
        """Stop a run at once that the store was asked to cancel; without the hint the next renewal tells."""
        driver = self._active.get(run)
        if driver is not None:
            driver.cancel(reason)
        else:
            self._hint.set()  # it may have been cancelled while queued, which frees its lane

    async def calm(self) -> None:
        """Wait until this process holds no run."""
        await self._calm.wait()

    async def stop(self, patience: float = 30.0) -> None:
        """Stop: claim and start nothing more, give attempts under way `patience` seconds, then let go of all."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_WITHIN), self._claiming:
                pass  # what a claim in flight brings must be released, not left to lapse
        for driver in list(self._active.values()):
            driver.quieten()
        if self._active and patience > 0:
            await self._calm_within(patience)
        for driver in list(self._active.values()):
            driver.drop()
        if self._active or self._going:
            await self._calm_within(KILL_WITHIN)
        for driver in [*self._active.values(), *self._going]:
            driver.kill()
        for loop in self._loops:
            loop.cancel()
        if self._soon is not None:
            self._soon.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._release()
        await self._hands.logs.flush()

    async def _calm_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._calm.wait()
        except TimeoutError:
            logger.warning(
                "%d runs have not ended within %g s",
                len(self._active) + len(self._going),
                seconds,
                extra={"action": "stop"},
            )

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Keep a loop alive: a defect of ours must not end claims or renewals for good."""
        while True:
            try:
                await work()
            except Exception:
                logger.exception("a loop of the dispatcher failed and goes on", extra={"action": "loop_failed"})
            await self._clock.sleep(1.0)

    # -- claiming ---------------------------------------------------------------------------------------------------
    async def _keep_polling(self) -> None:
        while True:
            await self._clock.sleep(self._settings.poll)
            self._hint.set()
            self._lapse()
            self._hands.pools.offer()  # limits may have been raised

    async def _keep_claiming(self) -> None:
        while True:
            await self._hint.wait()
            self._hint.clear()
            room = self._settings.runs - len(self._active)
            self._full = room <= 0
            if self._stopping or self._full:
                continue  # the end of a run gives the next hint
            if any(driver.stalled for driver in self._lapsed):
                await self._clock.sleep(AFTER_YOU)  # what is done is written before the run is taken over, by ourselves
                self._hint.set()
                continue
            async with self._claiming:
                wait = await self._claim_once(room)
            if wait > 0:
                await self._clock.sleep(wait)
                self._hint.set()

    async def _claim_once(self, room: int) -> float:
        """Claim up to `room` runs and drive them; return the seconds to wait when the store could not answer."""
        settings = self._settings
        sent = self._clock.monotonic()
        try:
            claimed = await self._store.claim(self._holder, room, settings.lease, settings.grace)
        except Unavailable as error:
            self._complain("claim", "runs cannot be claimed now: %s", error)
            return min(max(error.retry_after, 0.1), settings.poll)
        self._complaints.discard("claim")
        if claimed:
            self._hands.doors.fail_point("dispatch.claimed")
            for one in claimed:
                self._take(one, sent + settings.lease)
            self._full = len(claimed) >= room
        return 0.0

    def _take(self, claimed: Claimed, lease_until: float) -> None:
        """Drive a claimed run."""
        run = claimed.run
        former = self._active.pop(run.uid, None)
        if former is not None:  # its lease had ended, and we are the next holder ourselves
            self._count(former, -1)
            self._going.add(former)
            former.drop()
        driver = Driver(self._hands, self._made_ready(claimed), claimed, self._run_ended)
        driver.lease_until = lease_until
        driver.waited = self._clock.now() - run.created_at > WAITED
        self._active[run.uid] = driver
        self._count(driver, 1)
        self._calm.clear()
        if not claimed.taken_over:
            try:
                self._hands.observer.run_started(run)
            except Exception:
                logger.exception("an observer failed", extra={"action": "observer_failed"})
        if self._stopping:
            driver.quieten()
            driver.drop()
        driver.launch()

    def _made_ready(self, claimed: Claimed) -> ReadyDefinition:
        """Return the definition with its options compiled, the same object for the same definition."""
        name = claimed.run.definition
        ready = self._ready.get(name) if name else None
        if ready is None:
            ready = make_ready(claimed.definition, self._hands.doors.compile)
            if not name:
                return ready
            self._ready[name] = ready
            if len(self._ready) > READY_DEFINITIONS:
                self._ready.popitem(last=False)
        else:
            self._ready.move_to_end(name)
        return ready

    def _count(self, driver: Driver, by: int) -> None:
        pipeline = driver.run.pipeline
        count = self._by_pipeline.get(pipeline, 0) + by
        if count:
            self._by_pipeline[pipeline] = count
        else:
            self._by_pipeline.pop(pipeline, None)

    def _run_ended(self, driver: Driver) -> None:
        """Forget a run; see to it that what waited for its place is claimed."""
        uid = driver.run.uid
        if self._active.get(uid) is driver:
            at_limit = self._by_pipeline.get(driver.run.pipeline, 0) >= driver.concurrency
            del self._active[uid]
            self._count(driver, -1)
            if self._full or at_limit or driver.run.lane is not None:
                self._hint.set()
            elif driver.waited and self._soon is None and not self._stopping:
                self._soon = asyncio.get_running_loop().create_task(self._hint_soon())
            if self._stopping and not driver.concluded:
                self._given_up.append(uid)
                self._giving_up.set()
        self._going.discard(driver)
        self._lapsed.discard(driver)
        if not self._active and not self._going:
            self._calm.set()

    async def _hint_soon(self) -> None:
        """Claim a little later: where runs queue behind other holders' runs, an end of ours may have made room."""
        await self._clock.sleep(SOON)
        self._soon = None
        self._hint.set()

    # -- leases -----------------------------------------------------------------------------------------------------
    async def _keep_renewing(self) -> None:
        wait = self._settings.lease / 3
        while True:
            await self._clock.sleep(wait)
            wait = await self._renew()

    async def _renew(self) -> float:
        """Renew all leases in one call; return the seconds until the next time."""
        third = self._settings.lease / 3
        drivers = {uid: driver for uid, driver in self._active.items() if not driver.let_go and not driver.concluded}
        if not drivers:
            return third
        sent = self._clock.monotonic()
        try:
            renewal = await self._store.renew(self._holder, list(drivers), self._settings.lease)
        except Unavailable as error:
            self._complain("renew", "leases cannot be renewed now: %s", error)
            return min(third, RENEW_AGAIN)
        self._complaints.discard("renew")
        for uid in renewal.lost:
            logger.warning("run %s has another holder now and is let go", uid, extra={"action": "lease_lost"})
            drivers.pop(uid).drop()
        for uid, driver in drivers.items():
            driver.lease_until = sent + self._settings.lease
            if uid in renewal.cancel:
                driver.cancel(renewal.cancel[uid])
        return third

    def _lapse(self) -> None:
        """Stop the work of runs whose lease ended unrenewed: another holder may take them after the grace."""
        now = self._clock.monotonic()
        for driver in list(self._active.values()):
            if driver.lease_until <= now and not driver.let_go:
                logger.warning(
                    "run %s is let go: its lease could not be renewed", driver.run.uid, extra={"action": "lease_lapsed"}
                )
                self._lapsed.add(driver)
                driver.drop()

    def _complain(self, action: str, text: str, error: Unavailable) -> None:
        """Tell of a store that is away: once, until it was back."""
        if action not in self._complaints:
            self._complaints.add(action)
            logger.warning(text, error, extra={"action": action})

    async def _keep_releasing(self) -> None:
        while True:
            await self._giving_up.wait()
            self._giving_up.clear()
            await self._release()

    async def _release(self) -> None:
        """Give up the leases of runs that were let go on purpose. Where that fails they end by themselves."""
        runs, self._given_up = self._given_up, []
        if runs:
            try:
                await self._store.release(self._holder, runs)
            except Unavailable as error:
                logger.warning("leases cannot be released now: %s", error, extra={"action": "release"})
