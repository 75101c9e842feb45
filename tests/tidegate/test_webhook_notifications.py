"""Notifications of object storage by webhook: the object sensor looks at once, and the webhook's event is kept too."""

import asyncio
import gc
import json
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from config.load import load_config
from config.problems import ConfigProblems
from sensors.adapters.event_grid import Container, read_event_grid
from sensors.adapters.notice_reading import Message, Told
from sensors.adapters.s3_notices import read_s3
from sensors.adapters.webhook_notices import MOST, WebhookNotices, notice_text
from sensors.event import Event
from sensors.notice_hub import NoticeHub
from sensors.testing import VirtualClock
from tests.support.running import Running, load, running, until
from tests.support.scripted_s3 import Answer, Request, found, listing, running_script
from tidegate.store.reader import Row

TEXT = """
service: {name: svc, store: sqlite:///store.db}
sensors:
  told: {kind: webhook, path: /hooks/s3, verify: none}
  landing:
    kind: s3
    bucket: landing
    endpoint_url: URL
    region: us-east-1
    start: beginning
    every: 1h
    credentials: {access_key_id: k, secret_access_key: "${env:S3_SECRET:-s}"}
    notifications: {webhook: told}
"""


def _record(key: str, bucket: str = "landing") -> bytes:
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-31T06:00:00Z",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return json.dumps({"Records": [record]}).encode()


async def test_an_object_that_a_webhook_tells_of_is_an_event_at_once(tmp_path: Path) -> None:
    """The listing comes once an hour; the notification makes the sensor look now, and it finds the object itself."""
    there: set[str] = set()

    def answer(request: Request) -> Answer:
        key = request.path.removeprefix("/landing").lstrip("/")
        if request.method == "HEAD" and key:
            return found() if key in there else Answer(404)
        return listing(*sorted(there))

    async with running_script() as server:
        server.otherwise = answer
        config = await load(tmp_path, TEXT.replace("URL", server.url), store="memory:")
        async with running(config) as gate:
            await until(lambda: gate.service.sensor_health()["landing"]["last_success"] is not None)
            assert await gate.events() == []
            there.add("in/a b.csv")
            for body in (_record("in/a+b.csv"), _record("x.csv", "other"), _record("in/gone.csv"), b'{"Event": "x"}'):
                assert (await gate.post("/hooks/s3", body)).status == 202
            await gate.until_events(lambda rows: any(row["sensor"] == "landing" for row in rows))
            rows = await gate.events()
            letters = await _letters(gate)

    (seen,) = [row for row in rows if row["sensor"] == "landing"]
    assert (seen["type"], seen["subject"], seen["source"]) == ("object.created", "in/a b.csv", "s3://landing")
    assert len([row for row in rows if row["sensor"] == "told"]) == 4  # each delivery is an event of its own as well
    assert [(letter["sensor"], letter["reason"]) for letter in letters] == [("landing", "unreadable_notice")]


async def _letters(gate: Running) -> Sequence[Row]:
    """Return the dead letters as soon as there are any: messages need not share a commit."""
    async with asyncio.timeout(15):
        while True:
            letters, _ = await gate.service.store.read(lambda reader: reader.dead_letters(limit=10))
            if letters:
                return letters
            await asyncio.sleep(0.01)


# -- the queue ---------------------------------------------------------------------------------------------------------
def _event(data: bytes | None, type_: str = "webhook.received", **more: str) -> Event:
    return Event(sensor="told", id="1", uid="evt_1", source="/s", type=type_, received_at=1, data=data, **more)  # type: ignore[arg-type]


def _read(message: Message) -> Told:
    return read_s3(message, "landing")


async def test_only_hints_are_passed_on() -> None:
    """Messages of other buckets and confirmations of topics are passed over, unreadable ones are dead letters."""
    hub = NoticeHub()
    notices = WebhookNotices("told", _read, hub, VirtualClock())
    hub.publish("other", [_event(_record("a.csv"))])
    hub.publish("told", [_event(_record("a.csv")), _event(_record("b.csv", "other")), _event(b"x", "sns.subscribed")])
    hub.publish("told", [_event(None), _event(b"\xff")])
    came = await notices.receive()
    assert [[hint.key for hint in notice.hints] for notice in came] == [["a.csv"], []]
    assert came[1].dead is not None


async def test_what_is_given_back_comes_again_first() -> None:
    """A sensor whose source was away looks at what it was told meanwhile, in order."""
    hub = NoticeHub()
    notices = WebhookNotices("told", _read, hub, VirtualClock())
    hub.publish("told", [_event(_record(f"{n}.csv")) for n in range(3)])
    first = await notices.receive()
    hub.publish("told", [_event(_record("3.csv"))])
    await notices.give_back([notice.receipt for notice in first])
    await notices.close()
    await notices.open()
    assert notices.waiting() == 4
    assert [notice.hints[0].key for notice in await notices.receive()] == ["0.csv", "1.csv", "2.csv", "3.csv"]


async def test_it_is_bounded_and_forgets_who_is_gone() -> None:
    """A flood keeps the newest, and a sensor that was replaced holds no memory."""
    hub = NoticeHub()
    notices = WebhookNotices("told", _read, hub, VirtualClock())
    hub.publish("told", [_event(_record("a.csv"))] * (MOST + 5))
    assert (notices.waiting(), notices.lost) == (MOST, 5)
    del notices
    gc.collect()
    assert not hub._listeners["told"]


def test_event_grids_events_keep_their_envelope() -> None:
    """What Event Grid says of a blob stands in type and subject; the reader of its queue's messages understands it."""
    data = orjson.dumps({"api": "PutBlob", "url": "https://lake.blob.core.windows.net/raw/in/a.csv"})
    subject = "/blobServices/default/containers/raw/blobs/in/a.csv"
    text = notice_text(_event(data, "Microsoft.Storage.BlobCreated", subject=subject))
    told = read_event_grid(Message("p", text or ""), Container("lake", "raw"))
    assert [(hint.key, hint.what) for hint in told.hints] == [("in/a.csv", "written")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("webhook: nobody", "there is no webhook sensor `nobody`"),
        ("webhook: landing", "there is no webhook sensor `landing`"),
        ("webhook: told, sqs: q", "one of them"),
    ],
)
def test_a_webhook_that_is_not_there_is_told(tmp_path: Path, change: str, sentence: str) -> None:
    """A check names the webhook that is missing, and where it is written."""
    path = tmp_path / "tidegate.yaml"
    path.write_text(TEXT.replace("URL", "http://127.0.0.1:9").replace("webhook: told", change))
    with pytest.raises(ConfigProblems) as problems:
        load_config([path], environ={})
    assert sentence in str(problems.value.problems[0])
    assert "sensors.landing.notifications" in str(problems.value.problems[0])
