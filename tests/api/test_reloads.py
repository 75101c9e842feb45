"""Reloads, as the API and the command line tell of them."""

import httpx2 as httpx

from tests.support.house import FakeHouse
from tidegate.reloaded import KEPT, KeepReport, Reloaded, TriggerChange

CHANGE = TriggerChange(
    trigger="six", change="changed", what=("join.within", "join.of.c"), kept=1, carried=2, given_up=3, waiting=0
)
WORDS = "trigger six changed (join.within, join.of.c): 1 key kept, 2 keys carried over, 3 keys given up"


async def test_reloads_are_told_newest_first(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Each names the process, the configuration and what became of triggers and keys; a refused one says why."""
    for at, fields in ((1_000_000, {"triggers": (CHANGE,)}), (2_000_000, {"refused": "x is no duration"})):
        report = Reloaded(at=at, by="host/1", config="c" * 64, **fields)
        await house.real_store.submit(KeepReport(), report)

    refused, told = (await client.get("/api/v1/reloads")).json()["items"]
    assert (refused["refused"], refused["triggers"]) == ("x is no duration", [])
    assert (told["at"], told["by"], told["config"], told["refused"]) == (
        "1970-01-01T00:00:01Z",
        "host/1",
        "c" * 64,
        None,
    )
    assert told["triggers"] == [
        {
            "trigger": "six", "change": "changed", "what": ["join.within", "join.of.c"], "kept": 1, "carried": 2,
            "given_up": 3, "waiting": 0, "words": WORDS,
        }
    ]  # fmt: skip


async def test_a_house_that_never_reloaded_has_none(client: httpx.AsyncClient) -> None:
    """Without any reload the list is empty."""
    assert (await client.get("/api/v1/reloads")).json() == {"items": []}


async def test_reports_are_bounded(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """However often it reloads, the newest are kept."""
    for at in range(KEPT + 5):
        await house.real_store.submit(KeepReport(), Reloaded(at=at * 1_000_000, by="host/1", config="c"))

    items = (await client.get("/api/v1/reloads")).json()["items"]
    assert len(items) == KEPT
    assert items[-1]["at"] == "1970-01-01T00:00:05Z"
