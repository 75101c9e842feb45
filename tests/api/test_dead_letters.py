"""Dead letters over the API: tried again one by one or many at once, and listed by what became of them."""

from typing import Any

import httpx2 as httpx
import pytest

from sensors.batch import Batch, DeadLetter
from sensors.retrying import NotRetryable
from tests.support.house import FakeHouse
from tests.support.works import make_event

NOBODY = f"ddl_{'0' * 26}"


async def _letters(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    return list((await client.get(f"/api/v1/dead-letters{query}")).json()["items"])


async def test_a_letter_becomes_an_event(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A retry answers the event that came of it; the letter is listed with it, and no longer among those that wait."""
    await house.bury()
    (letter,) = await _letters(client, "?retried=false")
    house.read_again["hook"] = Batch([make_event("a", sensor="hook")])
    answer = await client.post(f"/api/v1/dead-letters/{letter['uid']}/retry")
    again = await client.post(f"/api/v1/dead-letters/{letter['uid']}/retry")
    (after,) = await _letters(client, "?retried=true")
    event = await client.get(f"/api/v1/events/{answer.json()['became']}")

    assert (answer.status_code, answer.json()["outcome"]) == (200, "event")
    assert (again.status_code, again.json()["outcome"]) == (200, "impossible")
    assert (after["became"], after["retried_at"] is not None) == (answer.json()["became"], True)
    assert event.json()["id"] == "a"
    assert await _letters(client, "?retried=false") == []
    assert [run["pipeline"] for run in (await client.get("/api/v1/runs")).json()["items"]] == ["anything"]


async def test_a_letter_that_is_still_wrong_stays(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """What is refused again, or cannot be tried, is answered with the reason, and the letter waits on."""
    await house.bury()
    (letter,) = await _letters(client)
    where = f"/api/v1/dead-letters/{letter['uid']}/retry"
    house.read_again["hook"] = Batch(dead_letters=[DeadLetter("bad", "still no JSON", "1")])
    refused = (await client.post(where)).json()
    house.read_again["hook"] = NotRetryable("it is cut")
    impossible = (await client.post(where)).json()
    missing = await client.post(f"/api/v1/dead-letters/{NOBODY}/retry")

    assert (refused["outcome"], refused["detail"]) == ("refused", "still no JSON")
    assert (impossible["outcome"], impossible["detail"]) == ("impossible", "it is cut")
    assert missing.status_code == 404
    assert len(await _letters(client, "?retried=false")) == 1


async def test_many_letters_at_once(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """By sensor and reason, oldest first; a dry run only tells which; events are judged again by one replay."""
    for _ in range(3):
        await house.bury()
    await house.bury(sensor="landing")
    await house.receive("bad.csv", data=b"{")
    await house.receive("worse.csv", data=b"[")
    house.read_again["hook"] = Batch(seen=())
    dry = (await client.post("/api/v1/dead-letters/retry", json={"sensor": "hook", "dry_run": True})).json()
    done = (await client.post("/api/v1/dead-letters/retry", json={"sensor": "hook"})).json()
    judged = (await client.post("/api/v1/dead-letters/retry", json={"reason": "unjudgeable"})).json()
    replays = (await client.get("/api/v1/replays")).json()["items"]

    hook = [letter["uid"] for letter in reversed(await _letters(client, "?sensor=hook"))]
    assert (dry["matched"], dry["items"], dry["more"]) == (hook, [], False)
    assert [item["uid"] for item in done["items"]] == hook
    assert {item["outcome"] for item in done["items"]} == {"impossible"}
    assert [item["outcome"] for item in judged["items"]] == ["replay", "replay"]
    assert [replay["asked"]["dead_letters"] for replay in replays] == [judged["matched"]]


@pytest.mark.parametrize("body", [{}, {"sensor": "a\0"}, {"sensor": 1}, {"all": True}])
async def test_a_retry_of_what_is_refused(body: Any, client: httpx.AsyncClient) -> None:
    """Many letters are tried again only by sensor or reason."""
    assert (await client.post("/api/v1/dead-letters/retry", json=body)).status_code == 422


async def test_letters_by_reason(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """The list can be asked for one reason."""
    await house.bury()
    await house.receive("bad.csv", data=b"{")

    assert len(await _letters(client)) == 2
    assert [letter["reason"] for letter in await _letters(client, "?reason=unjudgeable")] == ["unjudgeable"]
