"""A fenced batch that comes again after a commit whose answer was lost, on every store."""

from dataclasses import replace

import pytest

from sensors.batch import Batch, Cursor, DeadLetter, Fence
from tests.support.works import Works, epoch, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
CONFIG = make_config([make_trigger(run={"key": "event.id"})])


async def stored_batch(house: Works) -> Batch:
    """Store a batch with some of everything, and return it."""
    fences = Fence("a", await epoch(house, "a")), Fence("b", await epoch(house, "b"))
    batch = Batch(
        events=(make_event("1"), make_event("2")),
        cursors=(Cursor("a", "7"), Cursor("b", "9")),
        fences=fences,
        dead_letters=(DeadLetter("bad_payload", "no JSON", "a/6"),),
        counts={"unmatched": 5, "dead": 1},
        unwanted={("s|*", "hash"): 5},
    )
    assert not (await house.inbox.put("s", batch)).stale
    return batch


@EVERYWHERE
async def test_a_fenced_batch_counts_once_however_often_it_comes(works: OpenWorks) -> None:
    """A batch whose positions stand there already is stored: nothing is counted or kept a second time."""
    house = await works(CONFIG)
    batch = await stored_batch(house)
    before = await house.everything()
    again = await house.inbox.put("s", batch)

    assert [receipt.duplicate for receipt in again.receipts] == [True, True]
    assert [receipt.uid for receipt in again.receipts] == [event.uid for event in batch.events]
    assert await house.everything() == before
    counts = await house.counts("sensor")
    assert (counts["s", "unmatched"], counts["s", "dead"]) == (5, 1)
    assert ("s", "duplicate") not in counts
    assert (await house.counts("candidates"))["s|*", "hash"] == 5


@EVERYWHERE
async def test_a_batch_that_goes_further_is_no_repeat(works: OpenWorks) -> None:
    """One position that rises is enough: such a batch is new, and what it counts counts."""
    house = await works(CONFIG)
    batch = await stored_batch(house)
    further = replace(batch, events=(make_event("3"),), cursors=(Cursor("a", "7"), Cursor("b", "10")), dead_letters=())
    stored = await house.inbox.put("s", further)

    assert [receipt.duplicate for receipt in stored.receipts] == [False]
    assert (await house.counts("sensor"))["s", "unmatched"] == 10


@EVERYWHERE
async def test_a_repeat_by_who_has_lost_the_shard_is_stale(works: OpenWorks) -> None:
    """Who does not own the shards any more hears so, whether its batch was stored before or not."""
    house = await works(CONFIG)
    batch = await stored_batch(house)
    await epoch(house, "b")

    assert (await house.inbox.put("s", batch)).stale
