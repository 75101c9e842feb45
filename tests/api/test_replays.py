"""Replays over the API: started once per request, shown with what they came to, cancelled."""

from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from sensors.uid import EVENT, make_uid
from tests.support.house import FakeHouse
from tests.support.rules import trigger
from tidegate.rules import compile_rules
from triggers.pattern import Count, Part
from triggers.trigger import Paused, Source

NOBODY = make_uid(EVENT, 0, bytes(10))


async def _start(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return await client.post("/api/v1/replays", json=body, headers=headers or {})


async def _finish(house: FakeHouse) -> None:
    for _ in range(20):
        await house.replay_worker.work()


async def test_an_event_is_replayed(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A start answers 201 with where the replay is; it shows its counts, and its runs with what they replay."""
    uid = await house.receive("a.csv")
    await house.work()
    answer = await _start(client, events=[uid])
    await _finish(house)
    shown = (await client.get(answer.headers["location"])).json()
    runs = (await client.get(f"{answer.headers['location']}/runs")).json()["items"]
    run = (await client.get(f"/api/v1/runs/{runs[0]['run']}")).json()
    listed = (await client.get("/api/v1/replays?state=succeeded")).json()["items"]

    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    assert (shown["state"], shown["counts"]) == ("succeeded", {"looked": 1, "started": 1})
    assert (runs[0]["cause"], runs[0]["state"], runs[0]["item"]) == (uid, "queued", None)
    assert (run["generation"], run["replay"], run["replayed_from"]) == (2, shown["uid"], runs[0]["origin"])
    assert [item["uid"] for item in listed] == [shown["uid"]]


async def test_a_dry_run_says_why_not(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A dry run starts nothing, and its samples say what would start and what would not."""
    await house.receive("a.csv")
    await house.receive("small.csv", data=b'{"size": 1}')
    answer = await _start(client, trigger="orders-arrived", since="2020-01-01T00:00:00Z", dry_run=True)
    await _finish(house)
    shown = (await client.get(answer.headers["location"])).json()
    runs = (await client.get("/api/v1/runs")).json()["items"]

    assert shown["counts"] == {"looked": 2, "filtered": 1, "started": 1}
    assert {sample["reason"] for sample in shown["samples"]} >= {"when does not hold"}
    assert len(runs) == 1


async def test_the_same_request_twice(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """The same id answers the same replay with 200, as field and as header; another body under it is refused."""
    uid = await house.receive("a.csv")
    first = await _start(client, events=[uid], request_id="r-1")
    again = await _start(client, {"Idempotency-Key": "r-1"}, events=[uid])
    other = await _start(client, events=[uid], as_was=True, request_id="r-1")
    both = await _start(client, {"Idempotency-Key": "r-2"}, events=[uid], request_id="r-1")

    assert (first.status_code, again.status_code, other.status_code, both.status_code) == (201, 200, 409, 422)
    assert first.json()["uid"] == again.json()["uid"]
    assert "asked for something else" in other.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({}, "name events, dead letters, or a trigger with since", id="nothing"),
        pytest.param({"trigger": "orders-arrived"}, "a trigger with since", id="no since"),
        pytest.param({"since": "2020-01-01T00:00:00Z"}, "a trigger with since", id="no trigger"),
        pytest.param({"events": [NOBODY], "since": "2020-01-01T00:00:00Z"}, "a time range goes with", id="both"),
        pytest.param({"events": ["evt_x"]}, "match pattern", id="no uid"),
        pytest.param({"events": [NOBODY], "dead_letters": ["ddl_" + NOBODY[4:]]}, "not both", id="two kinds"),
        pytest.param({"dead_letters": ["ddl_" + NOBODY[4:]]}, "there is no dead letter", id="unknown letter"),
        pytest.param(
            {"dead_letters": ["ddl_" + NOBODY[4:]], "as_was": True}, "judged by no rule", id="letters as they were"
        ),
        pytest.param({"trigger": "none", "since": "2020-01-01T00:00:00Z"}, "no trigger of that name", id="unknown"),
        pytest.param({"trigger": "sleeping", "since": "2020-01-01T00:00:00Z"}, "is disabled", id="disabled"),
        pytest.param({"events": [NOBODY], "pipeline": "none"}, "no pipeline of that name", id="unknown pipeline"),
        pytest.param({"events": [NOBODY], "rate": "5"}, "match pattern", id="no rate"),
        pytest.param({"events": [NOBODY], "rate": "0/s"}, "must be a number per s, m or h", id="rate of none"),
        pytest.param({"events": [NOBODY], "rate": "5000/s"}, "at most 1000/s", id="too fast"),
        pytest.param({"events": [NOBODY], "request_id": "a b"}, "match pattern", id="request id"),
        pytest.param(
            {"trigger": "orders-arrived", "since": "2021-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"},
            "until must be later",
            id="backwards",
        ),
        pytest.param({"events": [NOBODY] * 1001}, "at most 1000 items", id="too many"),
    ],
)
async def test_what_cannot_be_replayed_is_refused(body: Any, said: str, client: httpx.AsyncClient) -> None:
    """A request that makes no sense is refused with 422 and a sentence, and no replay is kept."""
    answer = await _start(client, **body)

    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.json()
    assert (await client.get("/api/v1/replays")).json()["items"] == []


async def test_a_join_is_replayed_as_it_was(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A trigger that waits for several events is refused by today's rules, and taken as it was."""
    count = Count(part=Part(name="many", source=Source(sensor="hook")), reach=2, within=60_000_000)
    join = trigger("many", sensor="hook", pipeline="anything", pattern=count)
    triggers = {**house.config.triggers, "many": join}
    house.config = replace(house.config, triggers=triggers)
    since = "2020-01-01T00:00:00Z"
    today = await _start(client, trigger="many", since=since)
    then = await _start(client, trigger="many", since=since, as_was=True)

    assert (today.status_code, then.status_code) == (422, 201)
    assert "as_was repeats what it fired, as a whole" in today.json()["detail"]


async def test_cancelling(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A replay is cancelled once; what has ended cannot be, and what is not there is not found."""
    uid = await house.receive("a.csv")
    where = (await _start(client, events=[uid])).headers["location"]
    first = await client.post(f"{where}/cancel", json={"reason": "too much"})
    second = await client.post(f"{where}/cancel")
    none = await client.post(f"/api/v1/replays/rpl_{'0' * 26}/cancel")
    await _finish(house)

    assert (first.status_code, first.json()["state"], first.json()["reason"]) == (200, "cancelled", "too much")
    assert (second.status_code, none.status_code) == (409, 404)
    assert (await client.get(f"/api/v1/replays/rpl_{'0' * 26}")).status_code == 404
    assert (await client.get(f"/api/v1/replays/rpl_{'0' * 26}/runs")).status_code == 404
    assert len((await client.get("/api/v1/runs")).json()["items"]) == 1


async def test_a_replay_that_waits_says_so(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """While its trigger is paused, a replay tells what it waits for."""
    house.rules.swap(compile_rules(house.config, {"orders-arrived": Paused.HOLD}))
    answer = await _start(client, trigger="orders-arrived", since="2020-01-01T00:00:00Z")

    assert answer.json()["reason"] == "waits: trigger orders-arrived is paused"


async def test_pages_of_runs(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """The runs of a replay page like every list: all of them, each once."""
    uids = [await house.receive(f"{n}.csv") for n in range(5)]
    where = (await _start(client, events=uids)).headers["location"]
    await _finish(house)
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        page = (await client.get(f"{where}/runs{query}")).json()
        found += [item["cause"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break

    assert sorted(found) == sorted(uids)
