"""Dead letters read again: each kind makes of what its letters keep what it would have made, or says why it cannot."""

import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from sensors.adapters.kafka_formats import Json
from sensors.adapters.kafka_records import RecordReader
from sensors.adapters.kafka_retry import kept_record, record_again
from sensors.adapters.queue_options import QueueOptions
from sensors.adapters.queue_reading import MOST_KEPT, MessageReader
from sensors.adapters.refusing import look_again
from sensors.batch import Batch, DeadLetter
from sensors.errors import Refused
from sensors.kind import SensorContext
from sensors.retrying import NotRetryable, Retryable
from sensors.testing import FakeInbox, VirtualClock, make_request
from tests.sensors.test_files_expect import BAD, EXPECT, put
from tests.support.files import watching
from tests.support.http_watch import NAME, Watch
from tests.support.misbehaving_api import MisbehavingApi, Reply, running_api
from tests.support.records import record
from tests.support.webhooks import make_webhook
from triggers.template import compile_function

LETTER = "ddl_00000000000000000000000000"


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as made:
        yield made


async def retry(sensor: Any, letter: DeadLetter, inbox: FakeInbox | None = None, name: str = "x") -> Batch:
    """Retry on a fresh inbox unless given."""
    assert isinstance(sensor, Retryable)
    return await sensor.retry(LETTER, letter, {}, (inbox or FakeInbox()).lookup(name), 7)


async def test_a_delivery_keeps_what_its_event_needs() -> None:
    """With the expression corrected a delivery becomes the event that it would have been: id, attributes, content."""
    broken = make_webhook(id="body['nope']", verify={"scheme": "github", "secret": "s"}, subject="body['nope']")
    body = b'{"a": 1}'
    signature = "sha256=" + hmac.digest(b"s", body, "sha256").hex()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "d-1", "x-github-event": "push", "x-team": "é"}
    (letter,) = (await broken.receive(make_request(body, headers, query="page=2&token=t"))).dead_letters
    good = make_webhook(id="body['a']", verify={"scheme": "github", "secret": "s"}, subject="query['page']")
    batch = await retry(good, letter)
    still = await retry(broken, letter)
    (event,) = batch.events

    assert (event.id, event.type, event.subject, event.data) == ("d-1", "github.push", "2", body)
    assert (event.attributes["x-team"], event.attributes["query.page"], event.received_at) == ("é", "2", 7)
    assert not any("signature" in name or "token" in name for name in letter.attributes)
    assert (event.content_type, batch.dedup_for) == ("application/json", good._remember)
    assert still.events == ()
    assert still.dead_letters[0].reason == "expression_failed"


async def test_a_delivery_that_is_refused_today_says_so() -> None:
    """What today's options refuse is refused as a request would be; a letter without a delivery cannot be read."""
    (letter,) = (await make_webhook(id="body['a']").receive(make_request(b"{}", {}))).dead_letters

    with pytest.raises(Refused, match="media type"):
        await retry(make_webhook(content_types=["text/plain"]), letter)
    with pytest.raises(NotRetryable, match="let the sender deliver it again"):
        await retry(make_webhook(), DeadLetter("unstorable", "NUL", "x", b"{}"))


def _messages(**options: Any) -> MessageReader:
    context = SensorContext("q", "svc", VirtualClock(), Path("/nowhere"), {}, compile_function)
    return MessageReader(QueueOptions.model_validate(options), "queue://jobs", "queue.message", context)


def test_a_message_is_read_again() -> None:
    """A message becomes an event under the id that the queue gave it, or else one that its letter names."""
    attributes = {"message_id": "m-1", "routing_key": "a.b", "team": "x"}
    letter = DeadLetter("undecodable", "no JSON", "jobs/1", b"{1: 2}", "application/json", attributes=attributes)
    event = _messages(format="text").again(LETTER, letter, 7).result
    nameless = _messages(format="text").again(LETTER, DeadLetter("undecodable", "", "jobs/1", b"x"), 7).result
    still = _messages(format="json").again(LETTER, letter, 7).result

    assert not isinstance(event, DeadLetter)
    assert (event.id, event.subject, event.data, event.attributes) == ("m-1", "a.b", b"{1: 2}", attributes)
    assert not isinstance(nameless, DeadLetter)
    assert nameless.id == LETTER
    assert isinstance(still, DeadLetter)


@pytest.mark.parametrize(
    "letter",
    [
        pytest.param(DeadLetter("too_large", "", "jobs/1", bytes(MOST_KEPT)), id="cut"),
        pytest.param(DeadLetter("foreign_envelope", "", "jobs/1", b"x"), id="in an envelope"),
    ],
)
def test_a_message_that_is_not_whole_is_not_read_again(letter: DeadLetter) -> None:
    """What was cut, or stands in an envelope, is no message; the sentence says to send it again."""
    with pytest.raises(NotRetryable, match="send it again"):
        _messages().again(LETTER, letter, 7)


def _records(most: int = 1_000) -> RecordReader:
    return RecordReader("payments", "kafka://k:9092", Json(), max_record=most, headers=None)


def _buried(value: bytes, incarnation: int = 0, **more: Any) -> DeadLetter:
    from sensors.adapters.kafka_records import Harvest
    from sensors.ports import WantsAll

    harvest = Harvest()
    _records().read([record(value, 9, **more)], incarnation, WantsAll(), 7, harvest)
    (letter,) = harvest.letters
    return letter


@pytest.mark.parametrize("key", [b"k-1", b"\xff\x00", None])
@pytest.mark.parametrize("incarnation", [0, 2])
def test_a_record_is_read_again(key: bytes | None, incarnation: int) -> None:
    """A record becomes the event with the id, key and headers that it had in the log."""
    letter = _buried(b"{", incarnation, key=key, headers=[("x-team", b"a")])
    repaired = DeadLetter(letter.reason, "", letter.position, b"{}", attributes=letter.attributes)
    kept, found = kept_record(repaired, 1_000)
    harvest = record_again(_records(), kept, found, 7)
    still = record_again(_records(), *kept_record(letter, 1_000), 7)

    (event,) = harvest.events
    assert event.id == f"orders#{incarnation}/2/9"
    assert (kept.key, event.attributes["x-team"], event.attributes["offset"]) == (key, "a", "9")
    assert "incarnation" not in event.attributes
    assert (still.events, len(still.letters)) == ([], 1)


def test_a_record_that_was_cut_is_not_read_again() -> None:
    """A record above the bound, and a letter about a whole topic, cannot be read again."""
    with pytest.raises(NotRetryable, match="raise `max_record`"):
        kept_record(DeadLetter("too_large", "", "t/0/1", b"x", attributes={"topic": "t"}), 1_000)
    with pytest.raises(NotRetryable, match="of no record"):
        kept_record(DeadLetter("lost_to_retention", "", "t/0"), 1_000)


async def test_an_item_is_judged_by_todays_options(api: MisbehavingApi) -> None:
    """An item that was refused, or had no identity, is the event that a poll would have made; or is still wrong."""
    strict = {"url": api.url, "id": "item.id", "expect": {"columns": {"n": "int"}}}
    api.script += [Reply(b'[{"id": "a", "n": "x"}]'), Reply(b'[{"n": 1}]')]
    refusing, nameless = Watch(strict), Watch({"url": api.url, "id": "item.id + '!'"})
    await refusing.poll()
    await nameless.poll()
    letters = [watch.inbox.dead_letters[0] for watch in (refusing, nameless)]
    lenient = Watch({"url": api.url, "id": "item.id"})
    first = (await retry(lenient.sensor, letters[0], name=NAME)).events[0]
    second = (await retry(Watch({"url": api.url}).sensor, letters[1], name=NAME)).events[0]
    still = [
        await retry(refusing.sensor, letters[0], name=NAME),
        await retry(Watch({"url": api.url, "id": "item.id + '!'"}).sensor, letters[1], name=NAME),
    ]
    for watch in (refusing, nameless):
        await watch.close()

    assert [letter.reason for letter in letters] == ["refused", "bad_item"]
    assert (first.id, first.type, orjson.loads(first.data or b"")) == (
        "a",
        "http.item.created",
        {"id": "a", "n": "x"},
    )
    assert second.id.startswith("sha256:")
    assert [(batch.events, len(batch.dead_letters)) for batch in still] == [((), 1), ((), 1)]
    with pytest.raises(NotRetryable, match="asks for everything again"):
        await retry(lenient.sensor, DeadLetter("unstorable", "", ""))


async def test_a_refused_file_is_judged_anew(tmp_path: Path) -> None:
    """What today's `expect` accepts is an event of the file as it is, as if it had just been written."""
    inbox = FakeInbox()
    put(tmp_path / "a.csv", BAD)
    async with watching(tmp_path, inbox, expect=EXPECT) as watched:
        (letter,) = inbox.dead_letters
        again = await retry(watched.sensor, letter, inbox, watched.sensor._sensor)
        await inbox.put(watched.sensor._sensor, again)
        await watched.scan()
    refused = list(inbox.dead_letters)
    await inbox.put(watched.sensor._sensor, again)
    async with watching(tmp_path, inbox, expect={"columns": ["id", "total"]}) as watched:
        await watched.scan()
        told = watched.told
        with pytest.raises(NotRetryable, match="looked at again already"):
            await look_again(letter, inbox.lookup(watched.sensor._sensor))

    assert [one.position for one in refused] == ["a.csv", "a.csv"]
    assert told == [("created", "a.csv")]


async def test_a_file_that_is_gone_is_not_judged_anew(tmp_path: Path) -> None:
    """What was moved away, or is another version by now, cannot be judged anew, and the sentence says so."""
    inbox = FakeInbox()
    bad = put(tmp_path / "a.csv", BAD)
    async with watching(tmp_path, inbox, expect=EXPECT) as watched:
        (letter,) = inbox.dead_letters
        put(bad, BAD + "2,3\n", age=10)
        await watched.scan()
        name = watched.sensor._sensor
        with pytest.raises(NotRetryable, match="another version by now"):
            await retry(watched.sensor, letter, inbox, name)
        bad.unlink()
        await watched.scan()
        with pytest.raises(NotRetryable, match="is not there any more"):
            await retry(watched.sensor, inbox.dead_letters[-1], inbox, name)
        with pytest.raises(NotRetryable, match="rename or replace"):
            await retry(watched.sensor, DeadLetter("unreadable_name", "", "x"), inbox, name)
