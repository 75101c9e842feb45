"""Tracing: durable facts go in on the event loop, OTLP spans leave on a thread of their own.

Spans are a projection of the ledger. Their contexts were minted with the rows (`StoredEvent.span`, `Decision.span`,
`TriggerEvent.span`, `Run.run_span`, `TaskRun.span`), so they are built here only after the work is durable, and could
be built again from the rows. Each method copies a few fields into a bounded queue (see `worker`), costs below 3 µs,
blocks on nothing and never raises; contexts without the sampled flag are skipped. Call them from the loop's thread
only. Moments are nanoseconds. Order of spans is the order of calls.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from config.model import Telemetry
from pipelines.run import Run, RunState, TaskRun
from tidegate.store.records import StoredEvent
from tidegate.telemetry.model import (
    Shape,
    attempt_edges,
    known_method,
    run_edges,
    run_result,
    sampled,
    stored_parent,
    task_result,
)
from tidegate.telemetry.records import DECISION, EVENT, POLL, REQUEST, RUN, TASK, TRIGGER, Record
from tidegate.telemetry.sampling import root_minter
from tidegate.telemetry.settings import export_settings
from tidegate.telemetry.tracing import Tracing
from tidegate.telemetry.wire import MAX_TEXT
from tidegate.telemetry.worker import QUEUE, Tally, Worker, make_resource
from triggers.decision import Decision
from triggers.trigger_event import TriggerEvent

if TYPE_CHECKING:
    from tidegate.telemetry.encode import Envelope, SpanEncoder
    from tidegate.telemetry.metrics import Metrics

__all__ = ["ExportedTracing", "Tracing", "open_tracing"]

_LONG = 4 * MAX_TEXT
_MICRO = 1000


class ExportedTracing(Tracing):
    """Tracing switched on. Made by `open_tracing`."""

    enabled = True

    def __init__(self, queue: deque[Record], worker: Worker, mint_root: Callable[[], str], limit: int = QUEUE) -> None:
        super().__init__(mint_root)
        self._queue = queue
        self._append = queue.append
        self._worker = worker
        self._tally = worker.tally
        self._limit = limit

    def sensors(self, shapes: Mapping[str, Shape]) -> None:
        self._worker.reshape(shapes)

    def request(
        self,
        route: str,
        method: str,
        status: int,
        start_ns: int,
        end_ns: int,
        context: str,
        parent: str | None = None,
        link: str | None = None,
        *,
        path: str | None = None,
        scheme: str = "http",
    ) -> None:
        if not sampled(context):
            return
        if len(self._queue) >= self._limit:
            self._tally.overflow += 1
            return
        links = () if link is None else (link,)
        shown = route if path is None else path[:MAX_TEXT]
        self._append(
            (REQUEST, context, parent, links, start_ns, end_ns, known_method(method), route, status, shown, scheme)
        )

    def event(
        self, stored: StoredEvent, start_ns: int, end_ns: int, parent: str | None = None, links: Sequence[str] = ()
    ) -> None:
        span = stored.span
        if span is None or not sampled(span):
            return
        if len(self._queue) >= self._limit:
            self._tally.overflow += 1
            return
        event = stored.event
        id_, source, type_, subject = event.id, event.source, event.type, event.subject
        if len(id_) + len(source) + len(type_) + (0 if subject is None else len(subject)) > _LONG:
            id_, source, type_ = id_[:MAX_TEXT], source[:MAX_TEXT], type_[:MAX_TEXT]
            subject = None if subject is None else subject[:MAX_TEXT]
        self._append(
            (
                EVENT,
                span,
                parent,
                tuple(links),
                start_ns,
                end_ns,
                event.sensor,
                id_,
                source,
                type_,
                subject,
                event.uid,
                stored.state,
            )
        )

    def decision(
        self, decision: Decision, parent: str | None, links: Sequence[str], start_ns: int, end_ns: int
    ) -> None:
        span = decision.span
        if span is None or not sampled(span):
            return
        fields = (decision.trigger, decision.version, decision.outcome.value, decision.uid, len(decision.events))
        self._put((DECISION, span, parent, tuple(links), start_ns, end_ns, *fields))

    def trigger_event(
        self,
        trigger_event: TriggerEvent | None,
        run: Run | None,
        parent: str | None,
        links: Sequence[str],
        start_ns: int,
        end_ns: int,
    ) -> None:
        if trigger_event is not None:
            span, pipeline, trigger, uid = (
                trigger_event.span,
                trigger_event.pipeline,
                trigger_event.trigger,
                trigger_event.uid,
            )
        elif run is not None:
            span, pipeline, trigger, uid = run.span, run.pipeline, run.trigger or "", ""
        else:
            return
        if span is None or not sampled(span):
            return
        started = ("", "", 0) if run is None else (run.uid, run.key[:MAX_TEXT], run.generation)
        self._put((TRIGGER, span, parent, tuple(links), start_ns, end_ns, pipeline, trigger, uid, *started))

    def run(
        self,
        run: Run,
        links: Sequence[str] = (),
        *,
        state: RunState | None = None,
        error_type: str | None = None,
        end_us: int | None = None,
    ) -> None:
        span = run.run_span
        if span is None or not sampled(span):
            return
        edges = run_edges(run.span, links, causes=len(run.events))
        result, kind = run_result(state or run.state, error_type, started=run.started_at is not None)
        start = run.created_at if run.started_at is None else run.started_at
        end = max(start, run.finished_at or end_us or start)
        fields = (run.pipeline, run.trigger or "", result, kind or "", run.uid, run.key[:MAX_TEXT], run.generation)
        parent = stored_parent(span, run.span)
        self._put((RUN, span, parent, edges.links, start * _MICRO, end * _MICRO, *fields))

    def task(self, run: Run, task_run: TaskRun, *, end_us: int | None = None) -> None:
        span = task_run.span
        start = task_run.started_at
        if span is None or start is None or not sampled(span):
            return
        edges = attempt_edges(task_run, run.run_span)
        result, kind = task_result(task_run.state, task_run.error_kind)
        end = max(start, task_run.finished_at or end_us or start)
        self._put(
            (
                TASK,
                span,
                edges.parent,
                edges.links,
                start * _MICRO,
                end * _MICRO,
                run.pipeline,
                task_run.task,
                task_run.engine,
                result,
                kind or "",
                run.uid,
                task_run.uid,
                task_run.attempt,
                task_run.partition[:MAX_TEXT],
            )
        )

    def poll(self, sensor: str, n: int, start_ns: int, end_ns: int, context: str, links: Sequence[str] = ()) -> None:
        if n and sampled(context):
            self._put((POLL, context, None, tuple(links), start_ns, end_ns, sensor, n))

    def flush(self, timeout: float) -> bool:
        return self._worker.flush(timeout)

    def close(self, timeout: float) -> bool:
        return self._worker.close(timeout)

    @property
    def tally(self) -> Tally:
        return self._tally

    def _put(self, record: Record) -> None:
        if len(self._queue) >= self._limit:
            self._tally.overflow += 1
        else:
            self._append(record)


def open_tracing(
    config: Telemetry,
    service_name: str,
    version: str,
    instance: str,
    *,
    metrics: "Metrics | None" = None,
    base_url: str = "http://localhost:8080",
    environ: Mapping[str, str] | None = None,
) -> Tracing:
    """Start tracing as configured; what comes back is switched off when nothing is to be exported.

    `base_url` is where run URLs in spans point. `metrics` are exported over OTLP too, and told of dropped spans.
    Raises `settings.TelemetryError` for settings that cannot be used; an unreachable collector is no error.
    """
    settings = export_settings(config, os.environ if environ is None else environ)
    if not settings.enabled:
        return Tracing()
    queue: deque[Record] = deque()
    worker = Worker(queue, settings, _maker(service_name, version, instance, base_url), _metrics_body(metrics))
    if metrics is not None:
        _tell(metrics, worker.tally, queue)
    worker.start()
    if settings.traces_url is None:
        return _MetricsOnly(worker)
    return ExportedTracing(queue, worker, root_minter(config.sample))


class _MetricsOnly(Tracing):
    """No spans, but the thread that exports metrics."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def flush(self, timeout: float) -> bool:
        return self._worker.flush(timeout)

    def close(self, timeout: float) -> bool:
        return self._worker.close(timeout)


def _maker(service: str, version: str, instance: str, base_url: str) -> "Callable[[], tuple[SpanEncoder, Envelope]]":
    """Return what builds encoder and envelope: in the thread, so that heavy imports do not delay readiness."""

    def make() -> "tuple[SpanEncoder, Envelope]":
        from tidegate.telemetry.encode import Envelope, SpanEncoder

        return SpanEncoder({}, base_url.rstrip("/")), Envelope(make_resource(service, version, instance), version)

    return make


def _metrics_body(metrics: "Metrics | None") -> "Callable[[Envelope], bytes] | None":
    if metrics is None:
        return None

    def body(envelope: "Envelope") -> bytes:
        from tidegate.telemetry.otlp_metrics import encode_metrics

        return encode_metrics(metrics, envelope)

    return body


def _tell(metrics: "Metrics", tally: Tally, queue: deque[Record]) -> None:
    """Show the fate of spans on the metrics."""
    metrics.observed_counter(
        "tidegate.telemetry.dropped_spans",
        "Spans that were not delivered, by reason.",
        "{span}",
        ("reason",),
        lambda: {
            ("queue_full",): tally.overflow,
            ("not_delivered",): tally.failed,
            ("rejected",): tally.rejected,
            ("invalid",): tally.invalid,
        },
    )
    metrics.observed_counter(
        "tidegate.telemetry.exported_spans", "Spans that the receiver took.", "{span}", (), lambda: {(): tally.exported}
    )
    metrics.observed_gauge(
        "tidegate.telemetry.queue.size", "Spans that wait for export.", "{span}", (), lambda: {(): len(queue)}
    )
