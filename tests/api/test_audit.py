"""The audit of a sensor through the API: what it answers, and what it says when there is none."""

from typing import Any

import httpx2 as httpx
import pytest

from sensors.audit import AuditBusy, AuditReport, Finding, Findings, NotAuditable
from sensors.errors import BackOff, NotConnected
from sensors.ports import Unavailable
from tests.support.house import EVIL, FakeHouse

FOUND = AuditReport(
    listed=10,
    remembered=8,
    missing=Findings(2, [Finding("in/ü", "it was never seen"), Finding(EVIL, "it was never seen")]),
    changed=Findings(1, [Finding("in/b", "it is 2, and 1 is remembered")]),
    waiting={"it is newer than the last scan": 3},
    ignored={"pattern": 4, "ignore": 1},
    healed=3,
)


async def test_a_report(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """All of the report is answered, sorted, with null for no problem; healing is asked for in words."""
    house.audit = FOUND
    plain = await client.post("/api/v1/sensors/landing/audit")
    healing = await client.post("/api/v1/sensors/landing/audit?heal=true")

    assert (plain.status_code, healing.status_code) == (200, 200)
    assert house.audited == [("landing", False), ("landing", True)]
    assert plain.json() == {
        "sensor": "landing",
        "listed": 10,
        "remembered": 8,
        "missing": {
            "count": 2,
            "first": [
                {"key": "in/ü", "reason": "it was never seen"},
                {"key": EVIL, "reason": "it was never seen"},
            ],
        },
        "extra": {"count": 0, "first": []},
        "changed": {"count": 1, "first": [{"key": "in/b", "reason": "it is 2, and 1 is remembered"}]},
        "waiting": {"it is newer than the last scan": 3},
        "ignored": {"ignore": 1, "pattern": 4},
        "healed": 3,
        "problem": None,
    }


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        pytest.param(NotAuditable("sensor landing remembers no objects"), "remembers no objects", id="without ability"),
        pytest.param(AuditBusy("an audit of sensor landing is under way"), "is under way", id="one at a time"),
        pytest.param(NotConnected("no bucket"), "landing cannot be asked now: no bucket", id="not connected"),
        pytest.param(BackOff("slow down", 3.0), "landing cannot be asked now: slow down", id="throttled"),
        pytest.param(KeyError("landing"), "does not run now", id="a reload is at work"),
    ],
)
async def test_why_there_is_no_report(
    error: Exception, sentence: str, house: FakeHouse, client: httpx.AsyncClient
) -> None:
    """What stands in the way is a problem with the sentence, and nobody's fault."""
    house.audit = error
    answer = await client.post("/api/v1/sensors/landing/audit")

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert sentence in answer.json()["detail"]


async def test_a_store_that_is_away(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """When memory cannot be read the answer is 503, as everywhere."""
    house.audit = Unavailable("the database is away", 2.0)

    assert (await client.post("/api/v1/sensors/landing/audit")).status_code == 503


@pytest.mark.parametrize(
    ("path", "status"),
    [("nobody/audit", 404), ("off/audit", 409), ("landing/audit?heal=perhaps", 422)],
)
async def test_what_cannot_be_audited(path: str, status: int, client: httpx.AsyncClient) -> None:
    """Unknown and disabled sensors are refused as for every other verb; so is a `heal` that is no yes or no."""
    answer: Any = await client.post(f"/api/v1/sensors/{path}")

    assert answer.status_code == status
