"""Durable alarms.

A timer that is due is taken and handled in one transaction, by one replica, at least as late as it says.

In flow timers that writes have set; out flow calls of the handler of their kind, inside the transaction that deletes
them: if it fails, they stay. Order: by due time. The loop sleeps between looks; `wake` looks now.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.absorb import Facts
from tidegate.store.records import Timer
from tidegate.store.tx import ItemRefused, Store, Tx

Handler = Callable[[Tx, Timer], Facts | None]  # returns what it made durable, for the projections after COMMIT
Together = Callable[[Tx, Sequence[Timer]], Facts | None]  # the same for all timers of a kind that are due
_BATCH = 200
_LATER = 60_000_000  # µs until a timer that cannot be handled now is looked at again
_log = logging.getLogger("tidegate.timers")


@dataclass(frozen=True, slots=True)
class Fired:
    """The answer to one look: how many timers were handled, what that made durable, and whether some were set back."""

    handled: int
    facts: Sequence[Facts] = ()
    more: bool = False


class FireTimers:
    """The write that takes what is due and handles it. Unknown kinds stay for a version that knows them.

    Items are sets of timers (kind, key) that failed just now: they are put off, so that the others come about. Kinds
    `together` come first, before anything else is locked: their handlers may wait for what other transactions hold.
    """

    name = "timers"

    def __init__(self, handlers: Mapping[str, Handler], together: Mapping[str, Together] | None = None) -> None:
        self.handlers = dict(handlers)
        self.together = dict(together or {})
        self.in_hand: Timer | None = None  # the one whose handler was called last: it is at fault when that fails
        self.crowd = ""  # the kind of those in hand together: which of them is at fault is told by the next look
        self.apart = ""  # the kind of which a look takes one alone, because together they failed

    def __call__(self, tx: Tx, items: Sequence[frozenset[tuple[str, str]]]) -> Sequence[Fired]:
        """Handle what is due; answer how many were. What a handler raises undoes all of it."""
        self.in_hand, self.crowd = None, ""
        failed: frozenset[tuple[str, str]] = frozenset().union(*items)
        due = tx.due_timers(_BATCH)
        put_off = []
        facts: list[Facts] = []
        more = False
        for kind, all_at_once in self.together.items():
            mine = [timer for timer in due if timer.kind == kind and (kind, timer.key) not in failed]
            if (failed or kind == self.apart) and mine[1:]:
                tx.set_timers(mine[1:])
                due = [timer for timer in due if timer not in mine[1:]]
                mine, more = mine[:1], True
            if mine:
                self.in_hand, self.crowd = (mine[0], "") if len(mine) == 1 else (None, kind)
                made = all_at_once(tx, mine)
                self.crowd = ""
                if made is not None:
                    facts.append(made)
        for timer in due:
            if timer.kind in self.together and (timer.kind, timer.key) not in failed:
                continue
            handler = self.handlers.get(timer.kind)
            if handler is None or (timer.kind, timer.key) in failed:
                put_off.append(timer)
                continue
            self.in_hand = timer
            made = handler(tx, timer)
            if made is not None:
                facts.append(made)
        self.in_hand = None
        if put_off:
            now = tx.now()
            tx.set_timers([Timer(now + _LATER, timer.kind, timer.key, timer.payload) for timer in put_off])
        handled = len(due) - len(put_off)
        return [Fired(handled, facts, more), *(Fired(handled) for _ in items[1:])]


class Timers:
    """The loop that looks for due timers every `every` seconds. `on_facts` is told of what they made durable."""

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        clock: Clock,
        every: float = 1.0,
        on_facts: Callable[[Facts], None] | None = None,
    ) -> None:
        self._store = store
        self._fire = FireTimers(handlers)
        self._clock = clock
        self._every = every
        self._on_facts = on_facts
        self._wake = asyncio.Event()
        self._stop = False

    def handle(self, kind: str, handler: Handler) -> None:
        """Let `handler` have the timers of a kind."""
        self._fire.handlers[kind] = handler

    def handle_together(self, kind: str, handler: Together) -> None:
        """Let `handler` have all due timers of a kind at once."""
        self._fire.together[kind] = handler

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop after the look in hand."""
        self._stop = True
        self._wake.set()

    async def run(self) -> None:
        """Look until stopped; a store that cannot answer is asked again at the next look."""
        failed: set[tuple[str, str]] = set()
        while not self._stop:
            try:
                fired = await self._store.submit(self._fire, frozenset(failed))
            except Unavailable as error:
                _log.debug("timers wait for the store: %s", error)
                handled = 0
            except ItemRefused as error:
                timer = self._fire.in_hand
                if self._fire.crowd:
                    self._fire.apart = self._fire.crowd
                    continue
                if timer is not None:
                    failed.add((timer.kind, timer.key))
                    _tell_of_failure(timer, error)
                    continue
                _log.error("timers could not be read: %s", error, exc_info=error, extra={"action": "timer_failed"})
                handled = 0
            else:
                handled = fired.handled
                failed.clear()
                if fired.more:
                    self._tell(fired.facts)
                    continue
                self._fire.apart = ""
                self._tell(fired.facts)
            if handled >= _BATCH:
                continue
            await self._pause()

    def _tell(self, made: Sequence[Facts]) -> None:
        if self._on_facts is not None:
            for facts in made:
                self._on_facts(facts)

    async def _pause(self) -> None:
        """Wait for the next look, a wake or the stop."""
        sleep = asyncio.ensure_future(self._clock.sleep(self._every))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleep, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
        self._wake.clear()


def _tell_of_failure(timer: Timer, error: ItemRefused) -> None:
    _log.error(
        "the handler of timer %s/%s failed and is called again later: %s",
        timer.kind,
        timer.key,
        error.__cause__,
        exc_info=error.__cause__,
        extra={"action": "timer_failed"},
    )
