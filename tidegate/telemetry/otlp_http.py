"""One OTLP/HTTP destination: a keep-alive connection, retries that listen to the receiver, and an honest answer.

Bodies go in, a `Delivery` comes out, once per body and never an exception. 429, 502, 503, 504 and connection failures
are tried again with exponential back-off and jitter, or as long as `Retry-After` says, within `PATIENCE` seconds; any
other answer is final, as the OTLP specification demands. Redirects are not followed: they could carry headers
elsewhere. Everything here blocks and belongs to the telemetry thread.
"""

import gzip
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tidegate.telemetry.settings import ExportSettings

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

PATIENCE = 30.0
FIRST_WAIT = 0.5
MAX_WAIT = 8.0
_RETRYABLE = frozenset({429, 502, 503, 504})

Wait = Callable[[float], bool]  # waits so many seconds; True when there is no time left for another try


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one body: taken or not, why not, and the receiver's answer (for partial success)."""

    ok: bool
    reason: str = ""
    answer: bytes = b""


class OtlpHttp:
    """Posts protobuf bodies of one process to its collector. `now` and `jitter` are for tests."""

    def __init__(
        self,
        settings: ExportSettings,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._now = now
        self._wall = wall
        self._jitter = jitter
        self._pool: PoolManager | None = None

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, wait: Wait, patience: float = PATIENCE
    ) -> Delivery:
        """Send one body, patiently. Blocks; never raises for what the network or the receiver does."""
        deadline = self._now() + patience
        head = {**headers, "content-type": "application/x-protobuf", "user-agent": "tidegate-otlp"}
        if self._settings.gzip:
            body = gzip.compress(body, 1)
            head["content-encoding"] = "gzip"
        backoff = FIRST_WAIT
        while True:
            asked: float | None = None
            try:
                response = self._send(url, head, body)
                if 200 <= response.status < 300:
                    return Delivery(ok=True, answer=response.data or b"")
                reason = f"the OTLP receiver at {url} answered {response.status}"
                if response.status not in _RETRYABLE:
                    return Delivery(ok=False, reason=reason)
                asked = _retry_after(response.headers.get("retry-after"), self._wall())
            except Exception as failure:  # noqa: BLE001 - whatever the network does, work goes on
                reason = f"the OTLP receiver at {url} cannot be reached ({type(failure).__name__})"
            pause = backoff * (0.5 + self._jitter() / 2) if asked is None else asked
            backoff = min(MAX_WAIT, backoff * 2)
            if self._now() + pause > deadline or wait(pause):
                return Delivery(ok=False, reason=reason)

    def _send(self, url: str, headers: Mapping[str, str], body: bytes) -> "BaseHTTPResponse":
        return self._connections().request(
            "POST", url, body=body, headers=dict(headers), timeout=self._settings.timeout, retries=False, redirect=False
        )

    def _connections(self) -> "PoolManager":
        """Open the pool at first use: one connection, kept alive."""
        if self._pool is None:
            from urllib3 import PoolManager, Timeout

            settings = self._settings
            self._pool = PoolManager(
                num_pools=2,
                maxsize=1,
                timeout=Timeout(settings.timeout),
                ca_certs=settings.certificate,
                cert_file=settings.client_certificate,
                key_file=settings.client_key,
            )
        return self._pool

    def close(self) -> None:
        """Let go of the connection."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None


def _retry_after(text: str | None, wall: float) -> float | None:
    """Read `Retry-After` (seconds or an HTTP date) as seconds from now; None when absent or unreadable."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall)
    except (TypeError, ValueError, OverflowError):
        return None
