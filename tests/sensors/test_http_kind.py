"""The http kind over real sockets: which items are events, and how far the position moves."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from sensors.errors import NotConnected
from tests.support.http_watch import Watch, told
from tests.support.misbehaving_api import MisbehavingApi, Reply, Seen, reply, running_api

LIST = {"items": "body.items", "id": "item.id", "version": "item.updated_at", "high": "item.updated_at"}


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as server:
        yield server


def row(id_: str, at: str, **more: object) -> dict[str, object]:
    return {"id": id_, "updated_at": f"2026-01-31T{at}Z", **more}


def items(*rows: object) -> Reply:
    return reply({"items": list(rows)})


async def test_items_are_events_once_per_version(api: MisbehavingApi) -> None:
    """A new item is created, another version is changed, the same again is nothing; the event says what it was."""
    watch = Watch({"url": f"{api.url}/invoices?a=1", **LIST})
    api.script.append(items(row("i1", "06:00:00", n=1), row("i2", "06:00:01")))
    first = await watch.poll()
    api.script.append(items(row("i2", "06:00:01"), row("i1", "06:00:02", n=2), row("i3", "06:00:02")))
    second = await watch.poll()
    await watch.close()

    assert told(first) == [
        ("item.created", "i1@2026-01-31T06:00:00Z"),
        ("item.created", "i2@2026-01-31T06:00:01Z"),
    ]
    assert told(second) == [
        ("item.changed", "i1@2026-01-31T06:00:02Z"),
        ("item.created", "i3@2026-01-31T06:00:02Z"),
    ]
    event = second[0]
    assert (event.source, event.subject) == (f"{api.url}/invoices", "i1")
    assert event.time == int(datetime(2026, 1, 31, 6, 0, 2, tzinfo=UTC).timestamp() * 1e6)
    assert json.loads(event.data or b"") == row("i1", "06:00:02", n=2)


async def test_the_next_poll_asks_from_the_mark_less_the_overlap(api: MisbehavingApi) -> None:
    """`cursor.high` is null at first, which leaves the parameter out, then the highest mark lowered by the overlap."""
    watch = Watch({"url": api.url, **LIST, "overlap": "10m", "query": {"since": "${{ cursor.high }}", "all": True}})
    api.script.append(items(row("i1", "06:00:00"), row("i2", "05:00:00")))
    api.otherwise = lambda _: items()
    await watch.poll()
    await watch.poll()
    await watch.restart()
    await watch.poll()
    await watch.close()

    assert [seen.query for seen in api.seen] == [
        {"all": "true"},
        {"since": "2026-01-31T05:50:00Z", "all": "true"},
        {"since": "2026-01-31T05:50:00Z", "all": "true"},
    ]


async def test_start_now_is_silent_about_what_is_there(api: MisbehavingApi) -> None:
    """What the first complete poll finds is remembered without an event; later versions are changes."""
    watch = Watch({"url": api.url, **LIST, "start": "now"})
    api.script += [
        reply({"items": [row("i1", "06:00:00")]}, manner="half"),
        items(row("i1", "06:00:00"), row("i2", "06:00:00")),
    ]
    with pytest.raises(NotConnected, match="cut off"):
        await watch.poll()
    silent = await watch.poll()
    await watch.restart()
    api.script.append(items(row("i1", "06:00:00"), row("i2", "06:00:01"), row("i3", "05:00:00")))
    later = await watch.poll()
    await watch.close()

    assert silent == []
    assert told(later) == [("item.changed", "i2@2026-01-31T06:00:01Z"), ("item.created", "i3@2026-01-31T05:00:00Z")]
    assert watch.inbox.counts["ignored"] == 2


async def test_start_at_a_moment_asks_from_there_and_knows_history(api: MisbehavingApi) -> None:
    """The first request asks from the moment; an API that answers older items all the same tells no news with them."""
    watch = Watch({"url": api.url, **LIST, "start": "2026-01-31T06:00:00Z", "query": {"since": "${{ cursor.high }}"}})
    api.script.append(items(row("old", "05:59:59"), row("new", "06:00:00")))
    events = await watch.poll()
    await watch.close()

    assert api.seen[0].query == {"since": "2026-01-31T06:00:00Z"}
    assert told(events) == [("item.created", "new@2026-01-31T06:00:00Z")]


async def test_a_mark_in_the_future_does_not_skip_what_comes_later(api: MisbehavingApi) -> None:
    """A nonsense date in the year 9999 never becomes the place to ask from."""
    watch = Watch({"url": api.url, **LIST, "query": {"since": "${{ cursor.high }}"}})
    api.otherwise = lambda _: items()
    api.script.append(items({"id": "odd", "updated_at": "9999-12-31T00:00:00Z"}))
    await watch.poll()
    await watch.poll()
    await watch.close()

    assert api.seen[1].query["since"] < f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


async def test_items_without_an_id_are_known_by_their_content(api: MisbehavingApi) -> None:
    """Equal items are one event; another content is another item."""
    watch = Watch({"url": api.url})
    api.script += [reply([{"a": 1, "b": 2}, {"b": 2, "a": 1}]), reply([{"a": 1, "b": 2}, {"a": 2, "b": 2}])]
    first, second = await watch.poll(), await watch.poll()
    await watch.close()

    assert [event.type for event in (*first, *second)] == ["http.item.created"] * 2
    assert all(event.id.startswith("sha256:") for event in first)


async def test_a_version_may_be_the_content(api: MisbehavingApi) -> None:
    """`version: item` notices every change of an item that has no version of its own."""
    watch = Watch({"url": api.url, "id": "item.id", "version": "item"})
    api.script += [reply([{"id": 1, "n": 1}]), reply([{"n": 1, "id": 1}]), reply([{"id": 1, "n": 2}])]
    events = [told(await watch.poll()) for _ in range(3)]
    await watch.close()

    assert [[type_ for type_, _ in found] for found in events] == [["item.created"], [], ["item.changed"]]


async def test_an_item_that_cannot_be_identified_is_a_dead_letter_once(api: MisbehavingApi) -> None:
    """It goes to the dead letters with its content, the first time it is seen; its neighbours are events."""
    watch = Watch({"url": api.url, "id": "item.id + '!'"})
    answer = reply([{"id": 7, "text": "x"}, {"id": "good"}])
    api.script += [answer, answer]
    first, second = await watch.poll(), await watch.poll()
    await watch.close()

    assert (told(first), second) == ([("item.created", "good!")], [])
    assert [(letter.reason, letter.payload) for letter in watch.inbox.dead_letters] == [
        ("bad_item", b'{"id":7,"text":"x"}')
    ]


async def test_hostile_text_in_one_item_hurts_no_other(api: MisbehavingApi) -> None:
    """NUL, lone surrogates and numbers beyond 64 bits arrive as they are; ids of them may be stored."""
    watch = Watch({"url": api.url, "items": "body.items", "id": "item.id"})
    body = b'{"items": [{"id": "a\\u0000"}, {"id": "b\\ud800"}, {"id": 123456789012345678901234567890}, {"id": "c"}]}'
    api.script.append(Reply(body))
    events = await watch.poll()
    await watch.close()

    assert [event.subject for event in events] == ["a%00", "b%ED%A0%80", "123456789012345678901234567890", "c"]
    assert b"123456789012345678901234567890" in (events[2].data or b"")


async def test_a_value_that_changes_is_an_event(api: MisbehavingApi) -> None:
    """`changed` tells the value before and now; at first it is only remembered; a restart tells nothing again."""
    watch = Watch({"url": api.url, "changed": "body.count > 5", "start": "now"})
    api.otherwise = lambda _: reply({"count": count})
    count = 3
    events = [await watch.poll()]
    for count in (4, 9, 9):  # noqa: B007 - the server reads it
        events.append(await watch.poll())
    await watch.restart()
    events.append(await watch.poll())
    count = 1
    events.append(await watch.poll())
    await watch.close()

    assert [[json.loads(event.data or b"") for event in found] for found in events] == [
        [],
        [],
        [{"previous": False, "current": True}],
        [],
        [],
        [{"previous": True, "current": False}],
    ]
    assert {event.type for found in events for event in found} == {"http.changed"}


async def test_a_changed_form_of_items_is_told_once(api: MisbehavingApi) -> None:
    """Fields that come, go or change their type are one event of their own, and none when nothing changes again."""
    watch = Watch({"url": api.url, "id": "item.id"})
    before = [{"id": 1, "n": 1, "who": {"name": "a"}}, {"id": 2, "n": 2, "who": {"name": "b"}}]
    after = [{"id": 3, "n": "3", "who": {"full": "c"}, "tags": []}]
    api.script += [reply(before), reply(after), reply(after), reply([*before, *after])]
    events = [await watch.poll() for _ in range(4)]
    await watch.close()

    changes = [json.loads(event.data or b"") for found in events for event in found if "schema" in event.type]
    assert changes == [
        {
            "added": [{"name": "tags", "types": ["array"]}, {"name": "who.full", "types": ["string"]}],
            "removed": ["who.name"],
            "retyped": [{"name": "n", "expected": ["number"], "found": ["string"]}],
        },
        {"added": [], "removed": ["tags", "who.full"], "retyped": []},
    ]


async def test_an_unchanged_answer_is_not_sent_again(api: MisbehavingApi) -> None:
    """The validators of a complete answer are stored with its events and sent with the same request; 304 is fine."""
    watch = Watch({"url": api.url, "id": "item.id"})

    def answer(seen: Seen) -> Reply:
        if seen.headers.get("If-None-Match") == '"v1"':
            return Reply(status=304)
        return reply([{"id": 1}], headers={"ETag": '"v1"', "Last-Modified": "Sat, 31 Jan 2026 06:00:00 GMT"})

    api.otherwise = answer
    first = await watch.poll()
    await watch.restart()
    second = await watch.poll()
    lag = watch.sensor.lag()
    await watch.close()

    assert (len(first), len(second)) == (1, 0)
    assert api.seen[1].headers["If-Modified-Since"] == "Sat, 31 Jan 2026 06:00:00 GMT"
    assert lag is not None


async def test_validators_are_not_sent_with_another_request(api: MisbehavingApi) -> None:
    """Where the mark moved the request is another one, of which the answer says nothing; nor for paged lists."""
    watch = Watch({"url": api.url, **LIST, "query": {"since": "${{ cursor.high }}"}})
    paged = Watch({"url": api.url, "paging": {"by": "link"}})
    api.otherwise = lambda _: reply({"items": [row("i1", "06:00:00")]}, headers={"ETag": '"v1"'})
    await watch.poll()
    await watch.poll()
    await watch.poll()
    api.otherwise = lambda _: reply([1], headers={"ETag": '"v1"'})
    await paged.poll()
    await paged.poll()
    await watch.close()
    await paged.close()

    assert ["If-None-Match" in seen.headers for seen in api.seen] == [False, False, True, False, False]


async def test_another_source_must_be_said(api: MisbehavingApi) -> None:
    """Under another URL the position is kept or reset on demand only; reset forgets what was remembered."""
    api.otherwise = lambda _: reply([{"id": 1}])
    watch = Watch({"url": f"{api.url}/a", "id": "item.id"})
    await watch.poll()
    await watch.close()
    watch.options["url"] = f"{api.url}/b"
    await watch.restart()
    with pytest.raises(NotConnected, match="cursor: keep"):
        await watch.poll()
    watch.options["cursor"] = "reset"
    await watch.restart()
    memory = watch.inbox._seen["invoices"]
    await watch.connect()
    await watch.step()
    forgotten = dict(memory)
    await watch.poll()
    await watch.close()

    assert forgotten == {}
    assert "/b" in watch.cursor


async def test_memory_is_forgotten_when_items_cannot_come_back(api: MisbehavingApi) -> None:
    """Rows below what is asked from go when they are old; in a whole list those that were absent for long."""
    from sensors.testing import VirtualClock
    from tests.support.http_watch import make_context

    clock = VirtualClock()
    marked = Watch({"url": api.url, **LIST, "overlap": "1m", "remember": "1d"}, make_context(clock))
    whole = Watch({"url": api.url, "id": "item.id", "remember": "1d"}, make_context(clock))
    api.otherwise = lambda _: items(row("new", "07:00:00")) if len(api.seen) > 1 else items(row("old", "06:00:00"))
    await marked.poll()
    await clock.advance(86_000)
    await marked.poll()
    kept = set(marked.inbox._seen["invoices"])
    await clock.advance(1_000)
    await marked.poll()

    assert kept == {"i:old", "i:new"}
    assert set(marked.inbox._seen["invoices"]) == {"i:new"}

    api.script += [reply([{"id": 1}, {"id": 2}]), reply([{"id": 2}]), reply([{"id": 2}, {"id": 1}]), reply([{"id": 2}])]
    events = [await whole.poll() for _ in range(4)]
    api.otherwise = lambda _: reply([{"id": 2}])
    await clock.advance(86_000)
    await whole.poll()
    kept = set(whole.inbox._seen["invoices"])
    await clock.advance(1_000)
    await whole.poll()
    await marked.close()
    await whole.close()

    assert [len(found) for found in events] == [2, 0, 0, 0]
    assert kept == {"i:1", "i:2"}
    assert set(whole.inbox._seen["invoices"]) == {"i:2"}


async def test_items_that_are_not_as_expected_are_refused(api: MisbehavingApi) -> None:
    """Each version once, with what differs; the first one that is as expected is created for all who listen."""
    watch = Watch(
        {"url": api.url, **LIST, "on": ["created", "changed"], "expect": {"columns": {"id": "string", "n": "int"}}}
    )
    bad, worse = row("i1", "06:00:00", n="many"), row("i1", "06:00:01")
    good, better = row("i1", "06:00:02", n=1), row("i1", "06:00:03", n=2)
    for one in (bad, bad, worse, good, bad, better):
        api.script.append(items(one))
    events = [event for _ in range(6) for event in await watch.poll()]
    await watch.close()

    assert [(event.type, event.id) for event in events] == [
        ("http.item.created", "i1@2026-01-31T06:00:02Z"),
        ("http.item.changed", "i1@2026-01-31T06:00:03Z"),
    ]
    letters = watch.inbox.dead_letters
    assert [(letter.reason, letter.detail) for letter in letters] == [
        ("refused", "`n` is string and should be int"),
        ("refused", "column `n` is missing"),
    ]
    assert json.loads(letters[0].payload)["data"] == bad
    assert watch.inbox.counts == {"refused": 2}


@pytest.mark.parametrize(
    ("high", "overlap", "words"), [("item.n", "5m", "write a number"), ("item.at", 5, "a duration")]
)
async def test_an_overlap_of_the_wrong_kind_is_told(
    api: MisbehavingApi, high: str, overlap: object, words: str
) -> None:
    """Nothing moves until it is corrected, and the sentence says how."""
    watch = Watch({"url": api.url, "id": "item.id", "high": high, "overlap": overlap})
    api.otherwise = lambda _: reply([{"id": 1, "n": 7, "at": "2026-01-31T06:00:00Z"}])
    for _ in range(2):
        with pytest.raises((NotConnected, ValueError), match=words):
            await watch.poll()
    await watch.close()

    assert "high" not in json.loads(watch.cursor)
    assert len(watch.inbox.events) == 1


async def test_the_trace_of_an_answer_is_linked(api: MisbehavingApi) -> None:
    """A `traceparent` that the API sends goes with its items; one that makes no sense does not."""
    watch = Watch({"url": api.url, "id": "item.id"})
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    api.script += [
        reply([{"id": 1}], headers={"traceparent": parent}),
        reply([{"id": 2}], headers={"traceparent": "x"}),
    ]
    first, second = await watch.poll(), await watch.poll()
    await watch.close()

    assert [(event.traceparent, event.trusted) for event in (*first, *second)] == [(parent, False), (None, False)]


@pytest.mark.parametrize("text", ["x" * 3_000, "ü@%" * 900, "@" * 256])
async def test_ids_and_versions_of_any_length_can_be_stored(api: MisbehavingApi, text: str) -> None:
    """However long they are, the event's id stays within what a store takes, and different ones stay different."""
    watch = Watch({"url": api.url, "id": "item.id", "version": "item.v", "on": ["created", "changed"]})
    rows = [{"id": text + id_, "v": text + v} for id_ in "ab" for v in "cd"]
    api.script.append(reply(rows))
    events = await watch.poll()
    await watch.close()

    assert len({event.id for event in events}) == 4
    assert max(len(event.id.encode()) for event in events) <= 2_048
