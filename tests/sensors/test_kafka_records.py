"""From records to events: what passes becomes one, what does not is counted, and what nobody can read is kept."""

from typing import Any

import pytest

from sensors.adapters.kafka_formats import Bytes, Text
from sensors.kinds.kafka import KIND
from sensors.testing import check_event
from tests.support.records import MOMENT, read, record, rules_of

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOT = {"exact": {"data.kind": "hot"}}


def test_what_passes_is_an_event_and_the_rest_is_counted_as_filtered() -> None:
    """Records that no filter lets through make no event; they are candidates all the same, in exact numbers."""
    sieve = rules_of([HOT, {"exact": {"data.kind": "warm"}}]).sieve("s")
    kinds = ["cold", "hot", "cold", "warm", "cold"]
    harvest = read([record(b'{"kind":"%s"}' % kind.encode(), n) for n, kind in enumerate(kinds)], sieve)

    assert [event.id for event in harvest.events] == ["orders#0/2/1", "orders#0/2/3"]
    assert harvest.counts == {"unmatched": 3}
    assert sieve.unwanted() == {("s|*", "c1"): 3}
    assert len({event.uid for event in harvest.events}) == 2


@pytest.mark.parametrize("one", [HOT, {"exact": {"subject": "k"}}], ids=["quick", "asked"])
def test_a_record_that_may_hold_a_nul_is_judged_as_an_event(one: Any) -> None:
    """It is kept whatever filters say, so that its decision is an error; and then it is not counted as refused."""
    sieve = rules_of([one]).sieve("s")
    harvest = read([record(rb'{"kind":"a\u0000b"}'), record(rb'{"kind":"a\\u00e6"}', 1)], sieve)

    assert [event.data for event in harvest.events] == [rb'{"kind":"a\u0000b"}']
    assert sieve.unwanted() == {("s|*", "c1"): 1}


def test_text_that_holds_a_nul_is_judged_as_an_event() -> None:
    """In text the byte itself tells; other bytes are nobody's text."""
    no = rules_of([{"prefix": {"data": "x"}}])

    assert len(read([record(b"a\0b"), record(b"ab")], no.sieve("s"), decoder=Text()).events) == 1
    assert read([record(b"a\0b")], no.sieve("s"), decoder=Bytes()).events == []


def test_filters_see_key_headers_place_and_time() -> None:
    """What an event would say of its record can be asked for before there is one."""
    asked = [
        {"exact": {"subject": "k"}},
        {"exact": {"attributes.region": "no"}},
        {"exact": {"attributes.partition": "2"}},
        {"exact": {"source": "kafka://k:9092/orders"}},
        {"exact": {"id": "orders#0/2/7"}},
        {"exact": {"time": "2023-11-14T22:13:20Z"}},
    ]
    one = record(b"{}", 7, key=b"k", headers=[("Region", b"no")])

    for each in asked:
        assert len(read([one], rules_of([each]).sieve("s")).events) == 1, each
        assert read([record(b"{}", topic="t", partition=1, timestamp=0)], rules_of([each]).sieve("s")).events == [], (
            each
        )


@pytest.mark.parametrize("clouds", [False, True])
def test_filters_see_the_attributes_that_the_event_has(clouds: bool) -> None:
    """Whatever name a filter asks for, it finds what the event would keep under it, and nothing else."""
    headers = [
        ("Region", b"no"),
        ("region", b"se"),
        ("authorization", b"x"),
        ("topic", b"forged"),
        ("key", b"forged"),
        ("content-type", b"application/json"),
        *((f"ce_{name}", text) for name, text in (("specversion", b"1.0"), ("id", b"A"), ("source", b"/s"))),
        *((f"ce_{name}", text) for name, text in (("type", b"t"), ("shop", b"oslo"), ("region", b"dk"))),
    ]
    one = record(b"{}", 3, headers=headers)
    (event,) = read([one], clouds=clouds).events
    names = {"region", "Region", "authorization", "topic", "key", "offset", "ceid", "shop", "ce_id", "none"}

    for name in names | set(event.attributes):
        value = event.attributes.get(name)
        wanted = rules_of([{"exact": {f"attributes.{name}": value or "forged"}}]).sieve("s")
        assert len(read([one], wanted, clouds=clouds).events) == (value is not None), name


def test_a_record_nobody_can_read_is_a_dead_letter() -> None:
    """Its place, its bytes (no more than may be kept) and its headers are there to look at; the others go on."""
    harvest = read(
        [record(b"{broken", 3, headers=[("h", b"1")]), record(b"[" + b"1," * 40 + b"1]", 4), record(b"{}", 5)],
        max_record=50,
    )
    first, second = harvest.letters

    assert (first.reason, first.position, first.payload) == ("undecodable", "orders/2/3", b"{broken")
    assert "no JSON" in first.detail
    assert (first.attributes["h"], first.attributes["offset"]) == ("1", "3")
    assert (second.reason, len(second.payload)) == ("too_large", 50)
    assert "`max_record` allows 50" in second.detail
    assert harvest.counts == {"dead": 2}
    assert harvest.bytes == len(b"{broken") + 50 + len(b"{}")
    assert [event.id for event in harvest.events] == ["orders#0/2/5"]


def test_json_that_is_nested_too_deeply_is_a_dead_letter() -> None:
    """What no event may hold is kept with its reason."""
    harvest = read([record(b"[" * 200 + b"]" * 200)])

    assert (harvest.events, [letter.reason for letter in harvest.letters]) == ([], ["undecodable"])


def test_hostile_headers_and_keys_are_made_storable() -> None:
    """Whatever bytes a producer writes, the event keeps the form; secrets are not kept."""
    headers = [
        ("utf8", "Ærø".encode()),
        ("raw", b"\xff\xfe"),
        ("nul", b"a\0b"),
        ("none", None),
        ("Twice", b"1"),
        ("twice", b"2"),
        ("authorization", b"x"),
        ("api-key", b"x"),
        ("topic", b"forged"),
        ("tombstone", b"true"),
        ("ceid", b"forged"),
    ]
    (event,) = read([record(b"{}", key=b"\xff" * 5000, headers=headers)]).events
    check_event(KIND, "payments", event)

    assert event.attributes["utf8"] == "Ærø"
    assert event.attributes["raw"] == "ÿþ"
    assert "\0" not in event.attributes["nul"]
    assert event.attributes["topic"] == "orders"
    assert event.attributes["key_encoding"] == "base64"
    assert event.subject is None
    assert not {"authorization", "api-key", "tombstone", "ceid"} & set(event.attributes)


@pytest.mark.parametrize(
    ("key", "subject"),
    [(b"customer-7", "customer-7"), (None, None), (b"", None), (b"a\0", None), (b"\xff", None), (b"x" * 2000, None)],
)
def test_the_subject_is_the_key_when_it_is_text(key: bytes | None, subject: str | None) -> None:
    """A key that is no text of a sensible length names nothing, and is kept as an attribute."""
    (event,) = read([record(b"{}", key=key)]).events

    assert event.subject == subject
    assert ("key" in event.attributes) is (key is not None)


def test_only_named_headers_are_kept_where_they_are_named() -> None:
    """`headers` chooses; what we say of the record is always there."""
    (event,) = read([record(b"{}", headers=[("a", b"1"), ("b", b"2")])], headers=["a"]).events

    assert set(event.attributes) == {"a", "topic", "partition", "offset"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("traceparent", TRACE.encode()), ("tracestate", b"a=1")], (TRACE, "a=1")),
        ([("traceparent", b"nonsense"), ("tracestate", b"a=1")], (None, None)),
        ([("traceparent", TRACE.encode()), ("tracestate", b"a=\0")], (TRACE, None)),
        ([("traceparent", None)], (None, None)),
        ([], (None, None)),
    ],
)
def test_the_producers_trace_is_linked(headers: Any, expected: tuple[str | None, str | None]) -> None:
    """A valid context is taken over, untrusted; one that is not is left out."""
    (event,) = read([record(b"{}", headers=headers)]).events

    assert (event.traceparent, event.tracestate) == expected
    assert event.trusted is False


def test_a_record_without_a_moment_has_no_time() -> None:
    """Old producers give none; others give milliseconds."""
    first, second = read([record(b"{}", timestamp=-1), record(b"{}", 1)]).events

    assert (first.time, second.time) == (None, MOMENT * 1000)


def test_another_incarnation_has_other_ids() -> None:
    """The records of a topic that was made anew are other facts."""
    (event,) = read([record(b"{}", 4)], incarnation=3).events

    assert event.id == "orders#3/2/4"


# -- CloudEvents -------------------------------------------------------------------------------------------------------
def cloud(value: bytes | None, offset: int = 0, content_type: str = "application/json", **attributes: str) -> Any:
    given = {"specversion": "1.0", "id": "A1", "source": "/shop", "type": "shop.order", **attributes}
    headers = [(f"ce_{name}", text.encode()) for name, text in given.items() if text]
    return record(value, offset, headers=[("content-type", content_type.encode()), *headers])


def test_a_binary_cloudevent_speaks_for_itself() -> None:
    """Its attributes are the event's, its extensions and its own id attributes, UTF-8 as it stands."""
    one = cloud(b'{"n":1}', subject="Ærø %41", time="2026-01-31T06:00:00Z", region="no", traceparent=TRACE)
    (event,) = read([one], clouds=True).events

    assert (event.id, event.source, event.type) == ("orders#0/2/0", "/shop", "shop.order")
    assert (event.subject, event.time) == ("Ærø %41", 1_769_839_200_000_000)
    assert (event.data, event.content_type, event.traceparent) == (b'{"n":1}', "application/json", TRACE)
    assert (event.attributes["ceid"], event.attributes["region"]) == ("A1", "no")
    assert not [name for name in event.attributes if name.startswith("ce_")]


def test_a_structured_cloudevent_is_known_by_its_content_type() -> None:
    """It stays structured when `ce_` headers come along, and data in base64 is data."""
    document = (
        b'{"specversion":"1.0","id":"B","source":"/s","type":"t.b","datacontenttype":"text/plain","data_base64":"aGk="}'
    )
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8"), ("ce_id", b"other")]
    (event,) = read([record(document, headers=headers)], clouds=True).events

    assert (event.type, event.attributes["ceid"]) == ("t.b", "B")
    assert (event.data, event.content_type) == (b"hi", "text/plain")


def test_a_cloudevent_without_data_is_a_tombstone() -> None:
    """Binary mode with no value is an event without data."""
    (event,) = read([cloud(None)], clouds=True).events

    assert (event.data, event.content_type, event.attributes["tombstone"]) == (None, None, "true")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (record(b"{}"), "specversion"),
        (cloud(b"{}", id=""), "id is missing"),
        (cloud(b"{broken"), "not what its content type says"),
        (cloud(b"{}", datacontenttype="text/plain"), "datacontenttype"),
        (record(b"{", headers=[("content-type", b"application/cloudevents+json")]), "no JSON"),
        (record(b"[]", headers=[("content-type", b"application/cloudevents-batch+json")]), "only application"),
        (record(b"{}", headers=[("ce_id", b"\xff")]), "not UTF-8"),
        (record(b"{}", headers=[("ce_id", b"1"), ("ce_id", b"2")]), "came 2 times"),
    ],
)
def test_a_broken_cloudevent_is_a_dead_letter(one: Any, words: str) -> None:
    """Nothing is invented for what a CloudEvent must have."""
    harvest = read([one], clouds=True)

    assert harvest.events == []
    assert [letter.reason for letter in harvest.letters] == ["undecodable"]
    assert words in harvest.letters[0].detail


def test_cloudevents_are_counted_by_their_own_type() -> None:
    """A type that a trigger names has a counter of its own; types that strangers choose share one."""
    sieve = rules_of([HOT], types=("shop.order",)).sieve("s")
    records = [cloud(b'{"kind":"cold"}'), cloud(b'{"kind":"hot"}', 1), cloud(b"{}", 2, type="other"), cloud(b"1", 3)]
    harvest = read(records, sieve, clouds=True)

    assert [event.id for event in harvest.events] == ["orders#0/2/1"]
    assert sieve.unwanted() == {("s|shop.order", "c1"): 2}
    assert harvest.counts == {"unmatched": 3}
