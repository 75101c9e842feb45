"""The loop that works at replays: one step of each that is due, in turn, beside everything else.

In flow replays that have not ended, from the store; out flow steps (`tidegate.replays.step`). Of several replicas one
works at a replay: it holds it for a lease that every step renews, gives it back when it stops, and when it dies the
others go on after the lease has ended. None of this is needed for the promise that each run is started once; it keeps
replicas from reading the same pages. While more runs wait than the service is meant to hold, or the trigger is paused,
a replay waits.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sensors.clock import SECOND, Clock
from sensors.ports import Unavailable
from tidegate.absorb import Facts
from tidegate.replays.changing import EndAsk, EndReplay, GiveBackAsk, GiveBackReplays
from tidegate.replays.selecting import PAGE, Page, select, whole_firings
from tidegate.replays.step import StepAsk, StepReplay
from tidegate.rules import RulesInForce
from tidegate.salvage import of_data
from tidegate.store.replay_records import Replay, ReplayState
from tidegate.store.tx import ItemRefused, Store

POLL = 15.0  # seconds between looks for what other replicas left
_SOON = 1.0  # seconds until what waits for something else is looked at again
_MANY = 200  # more than may be under way
_TRIES = 5  # failures in a row, not for the sake of data, until a replay has failed
_log = logging.getLogger("tidegate.replays")


@dataclass(frozen=True, slots=True)
class Holding:
    """Who works here, and for how many seconds a replay stays its own (0: there is nobody else)."""

    holder: str
    lease: float


class Replays:
    """Works at all replays. `wake` looks now; `run` is one task."""

    def __init__(
        self,
        store: Store,
        rules: RulesInForce,
        step: StepReplay,
        holding: Holding,
        clock: Clock,
        on_facts: Callable[[Facts], None],
        pressure: Callable[[], str],
    ) -> None:
        """`pressure` says why no more runs are to be started now, empty when they may be."""
        self._store = store
        self._rules = rules
        self._step = step
        self._holding = holding
        self._clock = clock
        self._on_facts = on_facts
        self._pressure = pressure
        self._wake = asyncio.Event()
        self._stopping = False
        self._held: set[str] = set()
        self._small: set[str] = set()  # replays whose next pages are single causes, because a page was refused
        self._failures: dict[str, int] = {}

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop after the step in hand, and give back what is held."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped."""
        while not self._stopping:
            self._wake.clear()
            try:
                wait = await self.work()
            except Unavailable as error:
                _log.debug("replays wait for the store: %s", error)
                wait = max(_SOON, error.retry_after)
            except Exception as error:  # noqa: BLE001 - the next look must come: others wait for it
                _log.exception("replays could not be looked at: %s", error, extra={"action": "replays_failed"})
                wait = POLL
            if wait > 0 and not self._stopping:
                await self._pause(wait)
        await self._give_back()

    async def work(self) -> float:
        """Make one step of each replay that is due; return in how many seconds there is more to do."""
        replays = await self._store.read(lambda reader: reader.due_replays(_MANY))
        self._held &= {replay.uid for replay in replays}
        wait = POLL
        for replay in replays:
            if self._stopping:
                break
            wait = min(wait, await self._look(replay))
        return wait

    async def _look(self, replay: Replay) -> float:
        """Make a step of a replay if one may be made; return in how many seconds to look at it again."""
        now = self._clock.now()
        if replay.next_at > now:
            return (replay.next_at - now) / SECOND
        if replay.holder not in ("", self._holding.holder) and replay.lease_until > now:
            return (replay.lease_until - now) / SECOND
        rules = self._rules.current
        trigger = replay.spec.trigger
        if trigger in rules.paused or (not replay.spec.dry_run and self._pressure()):
            return _SOON
        sensors: list[str] = []
        if not replay.spec.events and not whole_firings(replay.spec):
            rule = rules.rules.rules.get(trigger or "")
            if rule is None:
                await self._fail(replay, f"trigger {trigger} is not configured any more, or is disabled")
                return 0.0
            sensors = sorted({sensor for sensor, _, _, _ in rule.sources})
        small = replay.uid in self._small
        page = await self._store.read(lambda reader: select(reader, replay, sensors, 1 if small else PAGE))
        return await self._submit(replay, page, small=small)

    async def _submit(self, replay: Replay, page: Page, *, small: bool, refused: str = "") -> float:
        holding = self._holding
        lease = round(holding.lease * SECOND)
        ask = StepAsk(replay.uid, replay.position, page, holding.holder, lease, refused)
        try:
            answer = await self._store.submit(self._step, ask)
        except ItemRefused as error:
            return await self._refused(replay, page, error, small=small, again=bool(refused))
        self._on_facts(answer.facts)
        if not answer.moved or answer.replay is None:
            return _SOON
        self._failures.pop(replay.uid, None)
        if refused:
            self._small.discard(replay.uid)
        self._held.add(replay.uid)
        if answer.replay.state.final:
            self._held.discard(replay.uid)
            self._small.discard(replay.uid)
            _log.info("replay %s has ended: %s", replay.uid, _told(answer.replay), extra={"action": "replayed"})
        return 0.0

    async def _refused(self, replay: Replay, page: Page, error: ItemRefused, *, small: bool, again: bool) -> float:
        """Find the cause that the store cannot hold, and pass it over; what fails for other reasons is tried again."""
        if of_data(error) and page.causes and not again:
            if small or len(page.causes) == 1:
                one = Page(page.causes[:1], page.causes[0].place, page.done and len(page.causes) == 1)
                return await self._submit(replay, one, small=small, refused=str(error.__cause__ or error))
            self._small.add(replay.uid)
            return 0.0
        failures = self._failures[replay.uid] = self._failures.get(replay.uid, 0) + 1
        _log.error(
            "a step of replay %s failed: %s", replay.uid, error, exc_info=error, extra={"action": "replay_step_failed"}
        )
        if failures >= _TRIES:
            self._failures.pop(replay.uid, None)
            await self._fail(replay, f"{_TRIES} steps in a row failed: {error.__cause__ or error}")
            return 0.0
        return _SOON

    async def _fail(self, replay: Replay, reason: str) -> None:
        _log.error("replay %s failed: %s", replay.uid, reason, extra={"action": "replay_failed"})
        await self._store.submit(EndReplay(), EndAsk(replay.uid, ReplayState.FAILED, reason[:2000]))

    async def _give_back(self) -> None:
        if self._held:
            try:
                await self._store.submit(GiveBackReplays(), GiveBackAsk(self._holding.holder, sorted(self._held)))
            except Unavailable as error:
                _log.debug("replays could not be given back, others go on after the lease: %s", error)

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleep, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()


def _told(replay: Replay) -> str:
    return ", ".join(f"{n} {outcome}" for outcome, n in replay.counts.items()) or "there was nothing"
