"""How much one endpoint takes in: a rate with a burst, and quotas in windows of time. In memory, for this process.

In flow requests as they come, out flows a refusal with 429 and Retry-After, or nothing. A request that is refused for
another reason (a forged one above all) gives its place back, so that strangers cannot use up what a sender has. When
the process starts anew, so do the counts: a limiter never refuses what it does not know of.
"""

import math
from dataclasses import dataclass

from sensors.clock import Clock
from sensors.errors import Refused


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is allowed: `rate` a second on average and `burst` at once; `requests` and `bytes` in each `per` seconds."""

    rate: float | None = None
    burst: int = 1
    requests: int | None = None
    bytes: int | None = None
    per: float = 86_400.0


class Throttle:
    """Counts one endpoint's requests. All calls belong to one loop."""

    def __init__(self, allowance: Allowance, clock: Clock) -> None:
        self._allowed = allowance
        self._clock = clock
        self._tokens = float(allowance.burst)
        self._since = clock.monotonic()
        self._window = self._since
        self._requests = self._bytes = 0

    def enter(self) -> None:
        """Let a request begin. Raises Refused(429) when too many came, or the quota is used up."""
        now = self._clock.monotonic()
        rate = self._allowed.rate
        self._turn(now)
        if self._allowed.requests is not None and self._requests >= self._allowed.requests:
            raise self._used_up(now, f"{self._allowed.requests} requests")
        if rate is not None:
            self._tokens = min(float(self._allowed.burst), self._tokens + (now - self._since) * rate)
            self._since = now
            if self._tokens < 1:
                wait = (1 - self._tokens) / rate
                raise Refused(429, "rate", f"more than {rate:g} requests a second came", headers=_after(wait))
            self._tokens -= 1
        self._requests += 1

    def admit(self, size: int) -> None:
        """Let a body of this size in. Raises Refused(429) when the quota of bytes is used up."""
        most = self._allowed.bytes
        if most is not None and self._bytes + size > most:
            raise self._used_up(self._clock.monotonic(), f"{most} bytes")
        self._bytes += size

    def give_back(self, size: int) -> None:
        """Take back a request that was let in and came to nothing, with the bytes that were admitted."""
        self._tokens = min(float(self._allowed.burst), self._tokens + 1)
        self._requests = max(0, self._requests - 1)
        self._bytes = max(0, self._bytes - size)

    def _turn(self, now: float) -> None:
        per = self._allowed.per
        if now - self._window >= per:
            self._window += math.floor((now - self._window) / per) * per
            self._requests = self._bytes = 0

    def _used_up(self, now: float, what: str) -> Refused:
        left = self._window + self._allowed.per - now
        return Refused(429, "quota", f"{what} in {self._allowed.per:g} s are used up", headers=_after(left))


def _after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}
