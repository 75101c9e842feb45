"""What a hostile reading of the core found: each test breaks a promise that was broken once."""

import asyncio
from typing import Any

import pytest

from sensors.batch import Batch, Cursor, DeadLetter
from tests.support.stores import do
from tests.support.works import chain, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.store.tx import ItemRefused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
POSTGRES = pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)


def _noise(characters: int) -> str:
    """Return text that no database compresses well, three bytes per character."""
    seed, out = 1, []
    for _ in range(characters):
        seed = seed * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out.append(chr(0x4E00 + (seed >> 40) % 20_000))
    return "".join(out)


@EVERYWHERE
async def test_a_run_that_cannot_be_begun_fails_and_keeps_no_other_back(works: OpenWorks) -> None:
    """A run whose definition cannot be read fails visibly; the runs behind it are claimed in the same breath."""
    house = await works(make_config([make_trigger(), chain("after", "p", "q", "failed")]))
    await house.put(make_event("a"))
    (run,) = await house.all_runs()
    text = await do(house.store, lambda tx: tx.get_definition(run["definition"]))
    assert text is not None

    def poison(tx: Any) -> None:
        from dataclasses import replace

        (bad,) = tx.get_runs([run["uid"]]).values()
        tx.put_definitions({"bad": '{"name": 5}'})
        tx.insert_runs([replace(bad, uid="run_bad", definition="bad", key="bad", trigger_event=None)], [])

    await do(house.store, poison)
    claims = await house.claim()

    assert [claimed.run.uid for claimed in claims] == [run["uid"]]
    bad = next(row for row in await house.all_runs() if row["uid"] == "run_bad")
    assert bad["state"] == "failed"
    assert "cannot be begun" in bad["error"]
    assert [row["pipeline"] for row in await house.all_runs() if row["uid"] not in ("run_bad", run["uid"])] == ["q"]


async def test_a_run_taken_over_by_its_own_process_goes_on(works: OpenWorks) -> None:
    """When a process takes its own run over, a late step of the former claim does not end the new one."""
    house = await works(make_config([make_trigger()]))
    await house.put(make_event("a"))
    (old,) = await house.claim()
    house.clock.at += 61_000_000
    (new,) = await house.claim()
    late = await house.end(old)

    assert not late
    assert await house.end(new)
    assert [row["state"] for row in await house.all_runs()] == ["succeeded"]


async def test_a_trigger_let_go_again_at_the_last_moment_goes_on(works: OpenWorks) -> None:
    """A release asked for between the last look of the one before and its end is not forgotten."""
    from triggers.trigger import Paused

    house = await works(make_config([make_trigger(paused=Paused.HOLD)]))
    house.releases.release(["t"])
    while house.rules.releasing("t"):
        await asyncio.sleep(0)
    house.releases.release(["t"])
    async with asyncio.timeout(5):
        await house.releases.settled()
        while house.rules.current.paused:
            await asyncio.sleep(0.01)

    assert house.rules.current.paused == {}


@EVERYWHERE
async def test_a_dead_letter_of_hostile_text_does_not_stop_its_sensor(works: OpenWorks) -> None:
    """What a source says about poison may itself be poison: the dead letter is kept, and the position moves."""
    house = await works(make_config([make_trigger()]))
    letter = DeadLetter(
        "bad_payload", "not \0 text \ud800", "offset \0", b"\0\xff", "a\0b", attributes={"k\0": "\ud800"}
    )
    await house.inbox.put("s", Batch(dead_letters=(letter,), cursors=(Cursor("0", "{}"),)))

    (kept,) = await house.dead_letters()
    assert kept["reason"] == "bad_payload"
    assert set(await house.inbox.cursors("s")) == {"0"}


@POSTGRES
async def test_an_id_that_no_index_takes_goes_to_the_dead_letters(works: OpenWorks) -> None:
    """One event that the database cannot hold is dead-lettered; its neighbours and the position are stored."""
    house = await works(make_config([make_trigger()]))
    events = (make_event("a"), make_event(_noise(1500)), make_event("b"))
    stored = await house.put(*events, cursors=(Cursor("0", "{}"),))

    (letter,) = await house.dead_letters()
    assert letter["reason"] == "unstorable"
    assert [receipt.duplicate for receipt in stored.receipts] == [False] * 3
    assert sorted(row["id"] for row in await house.events()) == ["a", "b"]
    assert set(await house.inbox.cursors("s")) == {"0"}
    assert len(await house.all_runs()) == 2


@POSTGRES
async def test_a_key_of_many_bytes_is_an_error_of_its_trigger(works: OpenWorks) -> None:
    """A run key that no index takes is a visible error of the trigger, not an event that can never be stored."""
    house = await works(make_config([make_trigger(run={"key": "event.subject"})]))
    await house.put(make_event("a", subject=_noise(1000)))

    assert await house.outcomes() == ["error"]


async def test_a_defect_of_ours_buries_no_event(works: OpenWorks) -> None:
    """What fails by our own fault is refused and tried again by its sensor, never moved to the dead letters."""
    house = await works(make_config([make_trigger()]))
    house.fail.arm("ingest.runs", 99)
    with pytest.raises(ItemRefused):
        await house.put(make_event("a"), make_event("b"))

    assert await house.dead_letters() == []
