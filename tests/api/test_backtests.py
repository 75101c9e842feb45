"""Back-tests through the API: the diff, problems of the changed rules, bounds, and whoever goes away."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from sensors.batch import Batch
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.peeking import NotPeekable
from sensors.uid import EVENT, new_uid
from tests.support.asking import client_of
from tests.support.house import FakeHouse, open_house
from tidegate.backtest.desk import Backtests, Busy

RULES = """
triggers:
  orders-arrived:
    on: {sensor: landing, filter: {suffix: {subject: .csv}}}
    when: event.data.size > LEAST
    run: {pipeline: orders, params: {path: "${{ event.subject }}"}, key: event.subject}
"""
ASK = {"triggers": ["orders-arrived"]}


def rules(least: int = 10) -> str:
    return RULES.replace("LEAST", str(least))


async def ask(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await client.post("/api/v1/backtests", json={**ASK, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_changed_rules_would_have_done(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """What would fire and does not, what would not any more, with the clause, and what stays; nothing is started."""
    runs = len((await client.get("/api/v1/runs")).json()["items"])
    more = await ask(client, config=rules(0))
    fewer = await ask(client, config=rules(1_000), samples=1)
    (gained,), (lost,) = more["triggers"], fewer["triggers"]

    assert (more["baseline"], more["stopped"], more["differs"]) == ("in_force", None, True)
    assert (gained["same"], gained["gained"], gained["lost"], gained["changed"]) == (3, 1, 0, 0)
    sample = gained["gained_samples"][0]
    assert (sample["pipeline"], sample["key"], sample["params"]) == ("orders", "small.csv", {"path": "small.csv"})
    assert sample["why"]["clause"]["path"] == "when"
    assert sample["why"]["clause"]["actual"] == 'false, with event.data = {"size":1}'
    assert (lost["lost"], len(lost["lost_samples"])) == (3, 1)
    assert lost["lost_why"] == [{"outcome": "filtered", "clause": "when", "n": 3}]
    assert len((await client.get("/api/v1/runs")).json()["items"]) == runs


async def test_the_rules_in_force_against_the_record(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Without changed rules the ledger is what is compared with; it agrees."""
    found = await ask(client)

    assert (found["baseline"], found["differs"]) == ("recorded", False)
    assert found["triggers"][0]["same"] == 3


async def test_without_names_all_that_differ(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Triggers that are not in the text are gone, and one that is the same to the letter is left out."""
    found = await ask(client, config=rules(0), triggers=[])

    assert [one["trigger"] for one in found["triggers"]] == ["orders-arrived", "everything", "sleeping"]
    assert [one["version_after"] is None for one in found["triggers"]] == [False, True, True]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"config": RULES}, "body.config:5:11 triggers.orders-arrived.when", "LEAST"),
        ({"config": rules().replace("pipeline: orders", "pipeline: order")}, "pipeline", "did you mean `orders`?"),
        ({"config": rules().replace("sensor: landing", "sensor: lnding")}, "sensor", "did you mean `landing`?"),
        ({"config": "triggers: ["}, "body.config:1", ""),
        ({"config": "sensors: {}"}, "triggers", "give the rules that are to be tried"),
        ({"config": rules().replace("event.subject}", '"${env:HOME}"}')}, "key", "not followed here"),
        (
            {"config": [{"name": "a.yaml", "text": rules()}, {"name": "b.yaml", "text": rules()}]},
            "b.yaml:3",
            "",
        ),
    ],
)
async def test_changed_rules_are_checked_like_configuration(
    body: dict[str, Any], pointer: str, detail: str, client: httpx.AsyncClient
) -> None:
    """Every problem has its place in the text and its remedy; no reference of a stranger's text is followed."""
    answer = await client.post("/api/v1/backtests", json={**ASK, **body})
    found = answer.json()

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert any(pointer in one["pointer"] and detail in one["detail"] for one in found["errors"]), found


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"triggers": ["orders-arived"]}, "did you mean `orders-arrived`"),
        ({"config": rules(), "sensors": ["hook"]}, "no trigger in question listens to sensor hook"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "does not lie before"),
        ({"baseline": "in_force"}, "but the record"),
        ({"from_source": True}, "no record to compare with"),
        ({"limit": 0}, "body.limit"),
        ({"confg": ""}, "body.confg"),
    ],
)
async def test_what_cannot_be_asked(body: dict[str, Any], sentence: str, client: httpx.AsyncClient) -> None:
    """A sentence says what would be right."""
    answer = await client.post("/api/v1/backtests", json={**ASK, **body})

    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def _event(number: int, time: int | None) -> Event:
    return Event(
        sensor="landing",
        id=f"{number}",
        uid=new_uid(EVENT, number),
        source="file://host/in",
        type="object.created",
        received_at=1_900_000_000_000_000,
        subject=f"{number}.csv",
        time=time,
        data=b'{"size": %d}' % number,
        content_type="application/json",
    )


async def test_a_source_s_own_history(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Read by a reader of its own, each event as if received at its own time; the store is not asked."""
    start = 1_767_225_600_000_000
    house.peek = Batch(events=[_event(n, start + n * 1_000_000) for n in range(20)])
    found = await ask(client, config=rules(5), from_source=True, since="2026-01-01T00:00:10Z", limit=30)
    (diff,) = found["triggers"]

    assert house.peeked == [("landing", 30)]
    assert (found["events"], diff["gained"], diff["same"]) == (10, 1, 9)
    assert diff["gained_samples"][0]["at"] == "2026-01-01T00:00:10Z"


@pytest.mark.parametrize("error", [NotPeekable("it is sent its events"), NotConnected("it is sent its events")])
async def test_a_source_without_a_history(error: Exception, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """What stands in the way is a problem with the sentence."""
    house.peek = error
    answer = await client.post("/api/v1/backtests", json={**ASK, "config": rules(5), "from_source": True})

    assert (answer.status_code, "it is sent its events" in answer.json()["detail"]) == (409, True)


async def test_only_so_many_at_once(
    lived_in: FakeHouse, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is told to come back."""

    async def busy(*_: object) -> None:
        raise Busy("2 back-tests are under way")

    monkeypatch.setattr(Backtests, "run", busy)
    answer = await client.post("/api/v1/backtests", json=ASK)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


async def test_whoever_goes_away_takes_the_work_along(
    lived_in: FakeHouse, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who does not wait any more is noticed within a second, and the work is cancelled."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def gone(_: object) -> bool:
        return begun.is_set()

    monkeypatch.setattr(Backtests, "run", endless)
    monkeypatch.setattr("starlette.requests.Request.is_disconnected", gone)
    answer = await client.post("/api/v1/backtests", json=ASK)

    assert cancelled.is_set()
    assert answer.status_code == 409


async def test_a_store_on_disk_is_gone_over_in_another_process(tmp_path: Path) -> None:
    """The whole way with SQLite: the service has the file open for writing, the back-test reads it elsewhere."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with open_house(tmp_path, url, store=url) as house, client_of(house) as client:
        await house.receive("a.csv")
        await house.receive("small.csv", data=b'{"size": 1}')
        (found,) = (await ask(client, config=rules(0)))["triggers"]
        (recorded,) = (await ask(client))["triggers"]

    assert (found["same"], found["gained"], found["before"]["filtered"]) == (1, 1, 1)
    assert (recorded["same"], recorded["gained"], recorded["lost"]) == (1, 0, 0)
