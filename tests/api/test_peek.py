"""Peeking at a sensor through the API: what it answers, and what it says when it cannot."""

import httpx2 as httpx
import pytest

from sensors.batch import Batch, DeadLetter
from sensors.errors import BackOff, NotConnected
from sensors.event import Event
from sensors.peeking import NotPeekable
from sensors.uid import EVENT, new_uid
from tests.support.house import EVIL, FakeHouse


def _event(id: str, data: bytes | None = b'{"size": 3}') -> Event:
    return Event(
        sensor="landing",
        id=id,
        uid=new_uid(EVENT, 1),
        source="file://host/in",
        type="object.created",
        received_at=1,
        subject=EVIL,
        time=1_769_839_200_000_000,
        data=data,
        content_type="application/json",
        match={"day": "2026-01-31"},
    )


async def test_what_would_come_next(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Events with their content, dead letters with their reason, and whether an id is stored already."""
    letter = DeadLetter("bad_payload", "no JSON", "p/1", b"{")
    await house.receive("b")
    house.peek = Batch(events=(_event("a@1"), _event("b@1", b"{")), dead_letters=(letter,))
    answer = await client.post("/api/v1/sensors/landing/peek?limit=7")
    found = answer.json()

    assert answer.status_code == 200
    assert house.peeked == [("landing", 7)]
    assert found["sensor"] == "landing"
    assert [event["stored"] for event in found["events"]] == [False, True]
    assert found["events"][0] | {"subject": ""} == {
        "id": "a@1",
        "type": "object.created",
        "source": "file://host/in",
        "subject": "",
        "time": "2026-01-31T06:00:00Z",
        "content_type": "application/json",
        "attributes": {},
        "match": {"day": "2026-01-31"},
        "data": {"size": 3},
        "stored": False,
    }
    assert found["dead_letters"] == [{"reason": "bad_payload", "detail": "no JSON", "position": "p/1"}]


async def test_five_unless_said_otherwise_and_also_of_what_is_disabled(
    house: FakeHouse, client: httpx.AsyncClient
) -> None:
    """A sensor may be looked at before it is switched on."""
    assert (await client.post("/api/v1/sensors/off/peek")).json() == {"sensor": "off", "events": [], "dead_letters": []}
    assert house.peeked == [("off", 5)]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotPeekable("sensor landing is sent its events; send one"), "is sent its events; send one"),
        (NotConnected("no bucket"), "landing cannot be asked now: no bucket"),
        (BackOff("slow down", 3.0), "landing cannot be asked now: slow down"),
        (KeyError("landing"), "does not run now"),
    ],
)
async def test_why_nothing_is_shown(
    error: Exception, sentence: str, house: FakeHouse, client: httpx.AsyncClient
) -> None:
    """What stands in the way is a problem with the sentence."""
    house.peek = error
    answer = await client.post("/api/v1/sensors/landing/peek")

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status"), [("nobody/peek", 404), ("landing/peek?limit=0", 422), ("landing/peek?limit=101", 422)]
)
async def test_what_cannot_be_asked(path: str, status: int, client: httpx.AsyncClient) -> None:
    """An unknown sensor, and more than a peek."""
    assert (await client.post(f"/api/v1/sensors/{path}")).status_code == status
