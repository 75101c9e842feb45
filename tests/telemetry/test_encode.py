"""What we lay out by hand is what the official classes read back."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource

from sensors.w3c import new_root
from tests.support.otlp import Seen, decode_spans
from tidegate.telemetry.encode import MAX_CONSTANTS, Envelope, SpanEncoder
from tidegate.telemetry.model import Shape, SpanKind
from tidegate.telemetry.records import DECISION, EVENT, POLL, REQUEST, RUN, TASK, TRIGGER, Record
from tidegate.telemetry.wire import MAX_LINKS, MAX_TEXT, BadContext, TextAttribute, varint

SHAPES = {"github": Shape(SpanKind.CONSUMER, "webhook"), "landing": Shape()}
contexts = st.builds(
    lambda ids, flags: f"00-{ids[:16].hex()}-{ids[16:].hex()}-{flags:02x}",
    st.binary(min_size=24, max_size=24),
    st.integers(0, 255),
)
times = st.integers(0, 2**63 - 1)
texts = st.text(max_size=3000)


def seen(*records: Record, shapes: Mapping[str, Shape] = SHAPES) -> list[Seen]:
    """Encode records and read them back."""
    encoder = SpanEncoder(shapes, "http://gate")
    envelope = Envelope(Resource({"service.name": "orders-gate", "n": 3, "list": ["a", "b"]}), "0.1.0")
    return decode_spans(envelope.wrap([encoder.encode(record) for record in records]))


@given(contexts, st.none() | contexts, st.lists(contexts, max_size=5), times, times)
def test_ids_times_and_links_survive(context: str, parent: str | None, links: list[str], start: int, end: int) -> None:
    """Every id, time, flag and link is read back as it was given."""
    (span,) = seen((POLL, context, parent, tuple(links), start, end, "landing", 3))

    assert (span.trace_id, span.span_id) == (context[3:35], context[36:52])
    assert span.parent_id == ("" if parent is None else parent[36:52])
    assert span.links == tuple(link[36:52] for link in links)
    assert (span.start, span.end) == (start, end)
    assert span.flags == int(context[53:55], 16) | 0x100


@given(texts, texts, texts, st.none() | texts)
def test_hostile_text_is_capped_and_stays_text(id_: str, source: str, type_: str, subject: str | None) -> None:
    """Ids, sources, types and subjects of any content arrive, at most so long."""
    (span,) = seen((EVENT, new_root(), None, (), 1, 2, "github", id_, source, type_, subject, "evt_1", "stored"))

    assert span.attributes["cloudevents.event_id"] == id_[:MAX_TEXT]
    assert span.attributes["cloudevents.event_source"] == source[:MAX_TEXT]
    assert span.attributes["cloudevents.event_type"] == type_[:MAX_TEXT]
    assert span.attributes.get("cloudevents.event_subject") == (None if subject is None else subject[:MAX_TEXT])


@given(st.integers(0, 2**63 - 1))
def test_varints(n: int) -> None:
    """Variable-length integers are protobuf's."""
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    assert AnyValue.FromString(b"\x18" + varint(n)).int_value == n


@pytest.mark.parametrize(
    "size", [0, 1, 90, 100, 101, 102, 103, 110, 123, 124, 125, 126, 127, 128, 129, 200, 1024, 20_000]
)
def test_every_length_of_an_attribute(size: int) -> None:
    """Lengths around the one-byte limit of every nested frame are right."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    span = Span.FromString(TextAttribute("cloudevents.event_id").encode("ü" * (size // 2) + "x" * (size % 2)))

    assert span.attributes[0].value.string_value == ("ü" * (size // 2) + "x" * (size % 2))[:MAX_TEXT]


@pytest.mark.parametrize(
    "context",
    [
        "",
        "00",
        "00-" + "g" * 32 + "-" + "g" * 16 + "-01",
        "00-" + "a " * 16 + "-" + "1 " * 8 + "-01",
        "x" * 55,
        "é" * 55,
    ],
)
def test_a_context_that_is_none_is_refused(context: str) -> None:
    """Nothing half-written enters a message, whatever a context holds."""
    encoder = SpanEncoder({}, "")
    for record in (
        (POLL, context, None, (), 1, 2, "s", 1),
        (POLL, new_root(), context, (), 1, 2, "s", 1),
        (DECISION, new_root(), None, (context,), 1, 2, "t", "v", "fired", "dec_1", 1),
    ):
        with pytest.raises(BadContext):
            encoder.encode(record)


def test_a_bad_link_from_outside_does_not_cost_the_span() -> None:
    """What a producer sent as its context and is none is left out; its neighbours stay."""
    (span,) = seen(
        (EVENT, CONTEXT, None, ("nonsense", CONTEXT), 1, 2, "github", "i", "s", "t", None, "evt_1", "stored")
    )

    assert span.links == (CONTEXT[36:52],)


def test_links_are_bounded_and_the_rest_is_counted() -> None:
    """A run of very many events links the first thousand and says how many there were."""
    (span,) = seen((POLL, new_root(), None, tuple(new_root() for _ in range(MAX_LINKS + 5)), 1, 2, "landing", 1))

    assert (len(span.links), span.dropped_links) == (MAX_LINKS, 5)


def test_lone_surrogates_do_not_stop_a_span() -> None:
    """Text that no encoding knows becomes question marks, also in names."""
    (span,) = seen(
        (EVENT, new_root(), None, (), 1, 2, "gi\ud800t", "a\udfffb", "s\ud800", "t", None, "evt_1", "stored")
    )

    assert span.name == "process gi?t"
    assert span.attributes["cloudevents.event_id"] == "a?b"


def test_strangers_cannot_make_the_cache_grow() -> None:
    """However many types and sources come from outside, so many constant parts are kept and no more."""
    encoder = SpanEncoder(SHAPES, "")
    for n in range(3 * MAX_CONSTANTS):
        encoder.encode((EVENT, new_root(), None, (), 1, 2, "github", "i", "s", f"type-{n}", None, "evt_1", "stored"))

    assert len(encoder._constants) <= MAX_CONSTANTS


def test_a_reload_changes_how_events_look() -> None:
    """A sensor that is another kind after a reload is shown as such."""
    encoder = SpanEncoder({}, "")
    envelope = Envelope(Resource({}), "0")
    record: Record = (EVENT, new_root(), None, (), 1, 2, "github", "i", "s", "t", None, "evt_1", "stored")
    before = decode_spans(envelope.wrap([encoder.encode(record)]))[0].kind
    encoder.reshape(SHAPES)

    assert (before, decode_spans(envelope.wrap([encoder.encode(record)]))[0].kind) == ("INTERNAL", "CONSUMER")


CONTEXT = "00-" + "a" * 32 + "-" + "1" * 16 + "-03"

GOLDEN: list[tuple[Record, str, str, bool, dict[str, Any]]] = [
    (
        (REQUEST, CONTEXT, None, (), 1, 2, "POST", "/hooks/github", 202, "/hooks/github", "http"),
        "POST /hooks/github",
        "SERVER",
        False,
        {
            "http.request.method": "POST",
            "http.route": "/hooks/github",
            "url.path": "/hooks/github",
            "url.scheme": "http",
            "http.response.status_code": 202,
        },
    ),
    (
        (REQUEST, CONTEXT, None, (), 1, 2, "_OTHER", "/api/v1/runs/{uid}", 503, "/api/v1/runs/run_1", "https"),
        "HTTP /api/v1/runs/{uid}",
        "SERVER",
        True,
        {
            "http.request.method": "_OTHER",
            "http.route": "/api/v1/runs/{uid}",
            "url.path": "/api/v1/runs/run_1",
            "url.scheme": "https",
            "http.response.status_code": 503,
            "error.type": "503",
        },
    ),
    (
        (EVENT, CONTEXT, None, (), 1, 2, "github", "d1", "/hooks/github", "github.push", "main", "evt_1", "stored"),
        "process github",
        "CONSUMER",
        False,
        {
            "messaging.system": "webhook",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "github",
            "sensor.name": "github",
            "cloudevents.event_spec_version": "1.0",
            "cloudevents.event_id": "d1",
            "cloudevents.event_source": "/hooks/github",
            "cloudevents.event_type": "github.push",
            "cloudevents.event_subject": "main",
            "tidegate.event.uid": "evt_1",
            "tidegate.event.state": "stored",
        },
    ),
    (
        (EVENT, CONTEXT, None, (), 1, 2, "landing", "a@1", "file:///in", "object.created", None, "evt_2", "dead"),
        "process landing",
        "INTERNAL",
        False,
        {
            "sensor.name": "landing",
            "cloudevents.event_spec_version": "1.0",
            "cloudevents.event_id": "a@1",
            "cloudevents.event_source": "file:///in",
            "cloudevents.event_type": "object.created",
            "tidegate.event.uid": "evt_2",
            "tidegate.event.state": "dead",
        },
    ),
    (
        (DECISION, CONTEXT, None, (), 1, 2, "pushed", "v1", "fired", "dec_1", 1),
        "evaluate pushed",
        "INTERNAL",
        False,
        {
            "trigger.name": "pushed",
            "trigger.version": "v1",
            "trigger.matched": True,
            "trigger.outcome": "fired",
            "trigger.event_count": 1,
            "tidegate.decision.uid": "dec_1",
        },
    ),
    (
        (DECISION, CONTEXT, None, (), 1, 2, "pushed", "v1", "error", "dec_1", 1),
        "evaluate pushed",
        "INTERNAL",
        True,
        {
            "trigger.name": "pushed",
            "trigger.version": "v1",
            "trigger.matched": False,
            "trigger.outcome": "error",
            "error.type": "evaluation_error",
            "trigger.event_count": 1,
            "tidegate.decision.uid": "dec_1",
        },
    ),
    (
        (TRIGGER, CONTEXT, None, (), 1, 2, "orders", "pushed", "trg_1", "run_1", "key", 2),
        "trigger orders",
        "PRODUCER",
        False,
        {
            "cicd.pipeline.name": "orders",
            "cicd.pipeline.action.name": "RUN",
            "cicd.pipeline.run.id": "run_1",
            "trigger.name": "pushed",
            "tidegate.trigger_event.uid": "trg_1",
            "tidegate.run.key": "key",
            "tidegate.run.generation": 2,
        },
    ),
    (
        (RUN, CONTEXT, None, (), 1, 2, "orders", "pushed", "failure", "exit_code", "run_1", "key", 1),
        "RUN orders",
        "SERVER",
        True,
        {
            "cicd.pipeline.name": "orders",
            "cicd.pipeline.action.name": "RUN",
            "cicd.pipeline.result": "failure",
            "error.type": "exit_code",
            "cicd.pipeline.run.id": "run_1",
            "cicd.pipeline.run.url.full": "http://gate/api/v1/runs/run_1",
            "trigger.name": "pushed",
            "tidegate.run.key": "key",
            "tidegate.run.generation": 1,
        },
    ),
    (
        (TASK, CONTEXT, None, (), 1, 2, "orders", "load", "python", "success", "", "run_1", "tsk_1", 3, "dt=1"),
        "load",
        "INTERNAL",
        False,
        {
            "cicd.pipeline.name": "orders",
            "cicd.pipeline.run.id": "run_1",
            "cicd.pipeline.task.name": "load",
            "cicd.pipeline.task.run.id": "tsk_1",
            "cicd.pipeline.task.run.result": "success",
            "cicd.pipeline.task.run.url.full": "http://gate/api/v1/runs/run_1#tsk_1",
            "tidegate.engine": "python",
            "tidegate.task.attempt": 3,
            "tidegate.partition": "dt=1",
        },
    ),
    (
        (POLL, CONTEXT, None, (), 1, 2, "github", 7),
        "poll github",
        "CLIENT",
        False,
        {
            "sensor.name": "github",
            "messaging.system": "webhook",
            "messaging.operation.name": "poll",
            "messaging.operation.type": "receive",
            "messaging.destination.name": "github",
            "messaging.batch.message_count": 7,
        },
    ),
]


@pytest.mark.parametrize(
    ("record", "name", "kind", "error", "attributes"), GOLDEN, ids=[f"{n}-{g[1]}" for n, g in enumerate(GOLDEN)]
)
def test_every_kind_of_span_is_exactly_this(
    record: Record, name: str, kind: str, error: bool, attributes: dict[str, Any]
) -> None:
    """Names, kinds, status and attributes are those of the conventions that we promise."""
    (span,) = seen(record)

    assert (span.name, span.kind, span.error) == (name, kind, error)
    assert span.attributes == attributes
    assert span.resource == {"service.name": "orders-gate", "n": 3, "list": ["a", "b"]}


def test_conventional_names_exist_in_the_conventions() -> None:
    """Every attribute that is not ours is known to the semantic conventions package."""
    import importlib
    import pkgutil

    import opentelemetry.semconv._incubating.attributes as incubating
    import opentelemetry.semconv.attributes as stable

    known: set[str] = set()
    for package in (incubating, stable):
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            known |= {value for value in vars(loaded).values() if isinstance(value, str)}
    ours = ("tidegate.", "sensor.", "trigger.")
    sent = {name for _, _, _, _, attributes in GOLDEN for name in attributes}

    assert {name for name in sent if not name.startswith(ours)} <= known
