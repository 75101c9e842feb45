"""Patience with the hosts that are asked: how many requests of this process are under way, and when one said wait.

One `Hosts` belongs to all sensors of a process: an API that limits its callers counts them together, whichever sensor
asks. In flow turns that are asked for and pauses that a host demanded; whoever waits for a turn gets it in the order of
asking. Used from one loop; remembers only hosts that are waited for or that must be left alone.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sensors.clock import Clock
from sensors.netguard import NetGuard

_MANY = 1_000  # hosts remembered, beyond which those with nothing to remember are dropped


@dataclass(slots=True)
class _Host:
    active: int = 0
    until: float = 0.0  # on the monotonic clock
    why: str = ""
    strikes: int = 0  # demands for patience in a row
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not self.active and not self.waiting and not self.strikes


class Hosts:
    """Turns and pauses by host (`name:port`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def turn(self, host: str, limit: int) -> AsyncIterator[None]:
        """Hold one of `limit` places at a host; wait for it behind those who asked before."""
        state = self._of(host)
        if state.waiting or state.active >= limit:
            ticket = asyncio.get_running_loop().create_future()
            state.waiting.append((limit, ticket))
            try:
                await ticket
            except asyncio.CancelledError:
                if ticket.done() and not ticket.cancelled():  # given in the same moment: pass it on
                    state.active -= 1
                else:
                    state.waiting.remove((limit, ticket))
                self._admit(state)
                raise
        else:
            state.active += 1
        try:
            yield
        finally:
            state.active -= 1
            self._admit(state)

    def pause(self, host: str, seconds: float, why: str) -> None:
        """Leave a host alone for so long; a longer pause that was demanded before stays."""
        state = self._of(host)
        until = self._clock.monotonic() + max(0.0, seconds)
        if until > state.until:
            state.until, state.why = until, why

    def remaining(self, host: str) -> tuple[float, str]:
        """Return for how many seconds a host is to be left alone, and why; 0 when it is not."""
        state = self._hosts.get(host)
        if state is None:
            return 0.0, ""
        return max(0.0, state.until - self._clock.monotonic()), state.why

    def strike(self, host: str) -> int:
        """Count a demand for patience; return how many there were in a row before it."""
        state = self._of(host)
        state.strikes += 1
        return state.strikes - 1

    def fine(self, host: str) -> None:
        """Note that the host answered as it should."""
        if (state := self._hosts.get(host)) is not None:
            state.strikes = 0

    def _of(self, host: str) -> _Host:
        state = self._hosts.get(host)
        if state is None:
            if len(self._hosts) >= _MANY:
                now = self._clock.monotonic()
                self._hosts = {name: one for name, one in self._hosts.items() if not one.idle or one.until > now}
            state = self._hosts[host] = _Host()
        return state

    @staticmethod
    def _admit(state: _Host) -> None:
        while state.waiting and state.active < state.waiting[0][0]:
            _, ticket = state.waiting.popleft()
            if not ticket.done():
                state.active += 1
                ticket.set_result(None)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What outgoing calls of sensors go by: which addresses they may reach, and patience with hosts."""

    guard: NetGuard
    hosts: Hosts
