"""The telemetry thread: takes records from a bounded queue, encodes them in small pieces, posts them; metrics now and
then.

The event loop only appends to a deque; nothing is locked, signalled or awaited there. The thread looks every `TICK`
seconds, takes what waits, and gives up the interpreter after every `CHUNK` spans, so that the loop is never kept
waiting for longer than a chunk takes (some 0.4 ms). Spans leave in the order in which they were recorded. What does
not fit into the queue, cannot be encoded, or is not taken by the receiver, is dropped and counted; nothing is kept on
disk, because the ledger can be projected again.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tidegate.telemetry.encode import Envelope, SpanEncoder
from tidegate.telemetry.model import Shape
from tidegate.telemetry.otlp_http import PATIENCE, OtlpHttp
from tidegate.telemetry.records import Record
from tidegate.telemetry.settings import ExportSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

QUEUE = 20_000
TICK = 0.2
CHUNK = 96
BATCH = 2_000
BREATH = 0.0002

_log = logging.getLogger(__name__)


class Tally:
    """Counts of one process's spans, by fate; each field is written by one thread only."""

    __slots__ = ("exported", "failed", "invalid", "overflow", "rejected")

    def __init__(self) -> None:
        self.exported = 0
        self.overflow = 0  # the queue was full (counted by the loop's thread, the others here)
        self.failed = 0  # the receiver did not take them in time
        self.rejected = 0  # the receiver refused some of an accepted request
        self.invalid = 0  # could not be encoded

    @property
    def dropped(self) -> int:
        """How many spans are lost, for whatever reason."""
        return self.overflow + self.failed + self.rejected + self.invalid


class _Flush:
    """Somebody waits for everything to be sent; `ok` says whether the receiver took it."""

    __slots__ = ("done", "ok")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.ok = False


class Worker:
    """Owns the queue's far end. `make` builds encoder and envelope in the thread; `metrics_body` encodes metrics."""

    def __init__(
        self,
        queue: deque[Record],
        settings: ExportSettings,
        make: Callable[[], tuple[SpanEncoder, Envelope]],
        metrics_body: Callable[[Envelope], bytes] | None,
        http: OtlpHttp | None = None,
    ) -> None:
        self.tally = Tally()
        self._queue = queue
        self._settings = settings
        self._make = make
        self._metrics_body = metrics_body if settings.metrics_url is not None else None
        self._http = http or OtlpHttp(settings)
        self._wake = threading.Event()
        self._stopping = False
        self._flushes: deque[_Flush] = deque()
        self._deadline = math.inf  # of the flush that somebody waits for
        self._failing = False
        self._shapes: Mapping[str, Shape] = {}
        self._metrics_due = time.monotonic() + settings.metrics_every
        self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def reshape(self, shapes: Mapping[str, Shape]) -> None:
        """Take how events of each sensor look, now or as soon as the thread runs."""
        self._shapes = shapes

    def flush(self, timeout: float) -> bool:
        """Send what waits, metrics too; True when the receiver took it within `timeout` seconds. Blocks."""
        if not self._thread.is_alive():
            return False
        flush = _Flush()
        self._deadline = time.monotonic() + timeout
        self._flushes.append(flush)
        self._wake.set()
        return flush.done.wait(timeout) and flush.ok

    def close(self, timeout: float) -> bool:
        """Flush, then end the thread; True when everything was sent. Blocks: call it off the loop."""
        done = self.flush(timeout)
        self._stopping = True
        self._deadline = 0.0
        self._wake.set()
        self._thread.join(1.0)
        return done

    # -- in the thread --------------------------------------------------------------------------------------------
    def _work(self) -> None:
        try:
            encoder, envelope = self._make()
        except Exception:  # noqa: BLE001 - the service works without its telemetry
            _log.exception("telemetry cannot start; spans are dropped", extra={"action": "telemetry_failed"})
            return
        while True:
            if self._stopping:
                self._http.close()
                return
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            ok = False
            try:
                failed = self.tally.failed
                self._drain(encoder, envelope)
                ok = self.tally.failed == failed
                if flushes or time.monotonic() >= self._metrics_due:
                    ok = self._send_metrics(envelope) and ok
            except Exception:  # noqa: BLE001 - the next batch may well go through
                _log.exception("telemetry failed and goes on", extra={"action": "telemetry_failed"})
            if flushes and not self._flushes:
                self._deadline = math.inf
            for flush in flushes:
                flush.ok = ok
                flush.done.set()
            if not self._flushes and not self._stopping:
                self._wake.wait(TICK)
                self._wake.clear()

    def _drain(self, encoder: SpanEncoder, envelope: Envelope) -> None:
        """Send what the queue held when we came, in requests of at most BATCH spans."""
        encoder.reshape(self._shapes)
        url = self._settings.traces_url
        left = len(self._queue)
        while left > 0:
            take = min(left, BATCH)
            left -= take
            spans = self._encode(encoder, take)
            if not spans or url is None:
                continue
            delivery = self._http.post(
                url, self._settings.traces_headers, envelope.wrap(spans), self._wait, self._patience()
            )
            if delivery.ok:
                rejected = min(len(spans), _rejected(delivery.answer))
                self.tally.rejected += rejected
                self.tally.exported += len(spans) - rejected
                self._report("")
            else:
                self.tally.failed += len(spans)
                self._report(delivery.reason)

    def _encode(self, encoder: SpanEncoder, count: int) -> Sequence[bytes]:
        spans: list[bytes] = []
        encode, pop = encoder.encode, self._queue.popleft
        for n in range(1, count + 1):
            try:
                spans.append(encode(pop()))
            except Exception:  # noqa: BLE001 - one bad record never fails its neighbours
                self.tally.invalid += 1
            if n % CHUNK == 0:
                time.sleep(BREATH)
        return spans

    def _send_metrics(self, envelope: Envelope) -> bool:
        self._metrics_due = time.monotonic() + self._settings.metrics_every
        if self._metrics_body is None or self._settings.metrics_url is None:
            return True
        body = self._metrics_body(envelope)
        delivery = self._http.post(
            self._settings.metrics_url, self._settings.metrics_headers, body, self._wait, min(5.0, self._patience())
        )
        self._report(delivery.reason)
        return delivery.ok

    def _patience(self) -> float:
        """How long one request may be tried: less when somebody waits for a flush."""
        return max(0.0, min(PATIENCE, self._deadline - time.monotonic()))

    def _wait(self, seconds: float) -> bool:
        """Wait between two tries; True when a flush or the end leaves no time for another."""
        self._wake.wait(seconds)
        self._wake.clear()
        return self._stopping or time.monotonic() >= self._deadline

    def _report(self, reason: str) -> None:
        """Log when export starts to fail and when it works again, not in between."""
        if reason and not self._failing:
            told = "telemetry is not delivered: %s; spans are dropped and counted"
            _log.warning(told, reason, extra={"action": "telemetry_failing"})
        elif not reason and self._failing:
            _log.info("telemetry is delivered again", extra={"action": "telemetry_recovered"})
        self._failing = bool(reason)


def _rejected(answer: bytes) -> int:
    """Read how many spans an accepted request lost (OTLP partial success)."""
    if not answer:
        return 0
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        rejected: int = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    except Exception:  # noqa: BLE001 - a 2xx with a body that is no protobuf is still a 2xx
        return 0
    return max(0, rejected)


def make_resource(service: str, version: str, instance: str) -> "Resource":
    """Build this process's resource; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come on top."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = Resource.create({"service.name": service, "service.version": version, "service.instance.id": instance})
    return ours.merge(OTELResourceDetector().detect())
