"""Which span stands below which, and what it links to: pure rules over contexts that are stored with the rows.

In flow `traceparent` texts and states of the ledger; out flow parents, links, results and kinds. A context keeps only
its trace and its own span id, so parenthood is decided here, the same way whenever a span is built: at once, or again
from the rows after a restart. Links from a run to its creation context and from there to the causing events exist in
every case.

| span | parent | links |
|---|---|---|
| request | the sender's context if the sender was verified | the sender's context otherwise |
| process | the request or poll | the producer's context |
| evaluate | process of the only event; none for several | process of every event |
| trigger | evaluate | process of every event |
| RUN | trigger if one event caused it and it is no replay; else none | trigger, and process of every further event |
| task attempt | RUN | - |
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pipelines.run import RunState, TaskRun, TaskState
from sensors.w3c import child_of, parse_traceparent

MintRoot = Callable[[], str]

_SAMPLED_NIBBLES = frozenset("13579bdf")
_STREAMS = {
    "kafka": "kafka",
    "rabbitmq": "rabbitmq",
    "sqs": "aws_sqs",
    "azure-queue": "servicebus",
    "eventhubs": "eventhubs",
}
_TIMEOUT_KINDS = frozenset({"timeout", "timed_out", "TaskTimedOut"})
_SYSTEM_KINDS = frozenset({"lost", "crash", "ambiguous", "unavailable", "parameters", "definition"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})


class SpanKind(IntEnum):
    """Span kinds with their numbers in OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Edges:
    """What one span hangs on: its parent's context (None: it is a root) and the contexts it links to, in order."""

    parent: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """How events of a sensor look in spans: CONSUMER with a messaging system for pushes and streams, else INTERNAL."""

    kind: SpanKind = SpanKind.INTERNAL
    system: str = ""


def shape_of(kind: str, *, push: bool) -> Shape:
    """Return the shape for a sensor kind: pushed and streamed events are messages, listed and polled ones are not."""
    if push:
        return Shape(SpanKind.CONSUMER, kind)
    if kind in _STREAMS:
        return Shape(SpanKind.CONSUMER, _STREAMS[kind])
    return Shape()


def sampled(context: str | None) -> bool:
    """Say whether a context of ours is to be exported: it exists and its sampled flag is set."""
    return context is not None and len(context) >= 55 and context[54] in _SAMPLED_NIBBLES


def same_trace(one: str | None, other: str | None) -> bool:
    """Say whether two contexts belong to one trace."""
    return one is not None and other is not None and one[3:35] == other[3:35]


def mint(edges: Edges, mint_root: MintRoot) -> str:
    """Mint the context of a span with these edges: in its parent's trace, or in a new one."""
    return child_of(edges.parent) if edges.parent is not None else mint_root()


def request_edges(traceparent: str | None, *, trusted: bool) -> Edges:
    """Say what a SERVER span hangs on, from the header as it came (anything invalid counts as absent).

    Only a verified sender's trace is continued; anyone else's is linked: strangers neither join our traces nor decide
    about sampling.
    """
    if parse_traceparent(traceparent) is None or traceparent is None:
        return Edges()
    context = traceparent.strip(" \t")[:55]
    return Edges(parent=context) if trusted else Edges(links=(context,))


def process_edges(received: str | None, producer: str | None) -> Edges:
    """Say what a `process` span hangs on: the span that received it, and a link to the producer's own context."""
    if parse_traceparent(producer) is None or producer is None:
        return Edges(received)
    return Edges(received, (producer.strip(" \t")[:55],))


def evaluate_edges(events: Sequence[str]) -> Edges:
    """Say what an `evaluate` span hangs on, from the contexts of the events it judged: one continues, several link."""
    return Edges(events[0] if len(events) == 1 else None, _unique(events))


def trigger_edges(evaluate: str | None, events: Sequence[str]) -> Edges:
    """Say what a `trigger` span hangs on: below its `evaluate`, linked to every causing event."""
    return Edges(evaluate, _unique(events))


def run_edges(creation: str | None, events: Sequence[str], *, causes: int, replay: bool = False) -> Edges:
    """Say what a RUN span hangs on, from its creation context and what is known of its events' contexts.

    `causes` counts the causing events. Exactly one, and no replay: the run continues its trace (and links as well);
    otherwise it starts its own, with a link per event.
    """
    alone = causes <= 1 and not replay
    links = ((creation,) if creation is not None else ()) + tuple(events)
    return Edges(creation if alone else None, _unique(links))


def stored_parent(context: str | None, candidate: str | None) -> str | None:
    """Return the candidate if the stored context says that it was minted below it (the same trace), else None."""
    return candidate if same_trace(context, candidate) and context != candidate else None


def attempt_edges(task: TaskRun, run_span: str | None) -> Edges:
    """Say what the span of a task's attempt hangs on: RUN. Each attempt has its own context, minted when it began."""
    return Edges(stored_parent(task.span, run_span))


def run_result(state: RunState, error_type: str | None, *, started: bool) -> tuple[str, str | None]:
    """Return `cicd.pipeline.result` and `error.type` of a run. `error`: could not run; `failure`: ran, and failed."""
    if state is RunState.SUCCEEDED:
        return "success", None
    if state is RunState.CANCELLED:
        return "cancellation", None
    if error_type in _TIMEOUT_KINDS:
        return "timeout", error_type
    if not started or error_type in _SYSTEM_KINDS:
        return "error", error_type or "not_started"
    return "failure", error_type or "failed"


def task_result(state: TaskState, error_kind: str | None) -> tuple[str, str | None]:
    """Return `cicd.pipeline.task.run.result` and `error.type` of one attempt of a task."""
    if state is TaskState.SUCCEEDED:
        return "success", None
    if state is TaskState.CANCELLED:
        return "cancellation", None
    if state in (TaskState.SKIPPED, TaskState.UPSTREAM_FAILED):
        return "skip", None
    if error_kind in _TIMEOUT_KINDS:
        return "timeout", error_kind
    if error_kind in _SYSTEM_KINDS:
        return "error", error_kind
    return "failure", error_kind or "failed"


def known_method(method: str) -> str:
    """Return an HTTP method of the standard, `_OTHER` for anything else (names must stay few)."""
    return method if method in _METHODS else "_OTHER"


def _unique(contexts: Iterable[str]) -> tuple[str, ...]:
    """Drop repeats, keep the order."""
    return tuple(dict.fromkeys(contexts))
