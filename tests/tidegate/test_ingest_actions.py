"""Actions on objects through the one transaction: with their events or not at all, due by the runs that follow."""

import asyncio
import hashlib
from typing import Any

import pytest

from pipelines.run import Run, RunState
from sensors.batch import Batch, ObjectAction, SeenObject
from tests.support.works import T0, Works, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.lookup import StoreLookup
from tidegate.store.tx import ItemRefused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
CONFIG = make_config([make_trigger(run={"key": "event.id"})])


def action(uid: str, event: str, **fields: Any) -> ObjectAction:
    """Make an action."""
    base: dict[str, Any] = {"key": "a", "etag": "e", "what": "delete", "when": "succeeded", "created_at": T0}
    return ObjectAction(uid, event, **{**base, **fields})


async def due(house: Works) -> list[str]:
    """Return the actions whose time has come."""
    return [item.uid for item in await StoreLookup(house.store, "s").due_actions(100)]


async def kept(house: Works) -> dict[str, str]:
    """Return the events of all open actions."""
    found = await StoreLookup(house.store, "s").open_actions(["a", "b"])
    return {item.uid: item.event for items in found.values() for item in items}


@EVERYWHERE
async def test_an_action_waits_for_its_run_and_is_forgotten_when_done(works: OpenWorks) -> None:
    """From the event to the run's success to the batch that has it done, over a restart."""
    house = await works(CONFIG)
    event = make_event("a")
    memory = SeenObject("a", "e+1+1", 0, "present", T0, T0)
    actions = [action("act_1", event.uid), action("act_2", event.uid, when="accepted")]
    await house.put(event, seen=(memory,), actions=actions)
    queued = await due(house)
    await house.restart()
    await house.work()
    succeeded = await due(house)
    gone = SeenObject("a", "e+1+1", 0, "deleted", T0, T0)
    await house.put(seen=(gone,), actions_done=["act_1", "act_2"])

    assert queued == ["act_2"]
    assert succeeded == ["act_1", "act_2"]
    assert await kept(house) == {}
    assert (await house.everything())["seen"] == {"a": gone}


@EVERYWHERE
async def test_duplicates_bring_no_action(works: OpenWorks) -> None:
    """An event that is known already, in its group or before it, brings nothing to be done."""
    house = await works(CONFIG)
    events = [make_event("a") for _ in range(3)]
    batches = [Batch((event,), actions=[action(f"act_{n}", event.uid)]) for n, event in enumerate(events)]
    await asyncio.gather(*(house.inbox.put("s", batch) for batch in batches[:2]))
    await house.inbox.put("s", batches[2])

    assert await kept(house) == {"act_0": events[0].uid}


@EVERYWHERE
async def test_a_batch_that_is_tried_again_keeps_its_actions_once(works: OpenWorks) -> None:
    """When the answer to a commit was lost, the same batch again changes nothing, whatever its actions wait for."""
    house = await works(CONFIG)
    event = make_event("a")
    actions = [action("act_1", event.uid), action("act_2", "evt_refused", when="now")]
    batch = Batch((event,), actions=actions)
    await house.inbox.put("s", batch)
    await house.inbox.put("s", batch)

    assert await kept(house) == {"act_1": event.uid, "act_2": ""}


@pytest.mark.parametrize("point", ["ingest.ids", "ingest.runs", "ingest.decided", "store.before_commit"])
async def test_events_and_actions_are_all_or_nothing(works: OpenWorks, point: str) -> None:
    """A transaction that fails anywhere leaves neither; ends of actions are undone with it."""
    house = await works(CONFIG)
    await house.put(actions=[action("act_0", "", when="now")])
    event = make_event("a")
    batch = Batch((event,), actions=[action("act_1", event.uid)], actions_done=["act_0"])
    house.fail.arm(point, 9)
    with pytest.raises(ItemRefused):
        await house.inbox.put("s", batch)
    between = await kept(house)
    house.fail.armed.clear()
    await house.inbox.put("s", batch)

    assert between == {"act_0": ""}
    assert await kept(house) == {"act_1": event.uid}


@EVERYWHERE
async def test_actions_of_a_salvaged_batch_follow_their_events(works: OpenWorks) -> None:
    """When a neighbour cannot be stored, the others' actions come under their new uids; the dead one's goes with it."""
    house = await works(CONFIG)
    good, bad = make_event("good"), make_event("bad", subject="a\0b")
    actions = [action("act_1", good.uid), action("act_2", bad.uid), action("act_3", "evt_x", when="now")]
    stored = await house.put(bad, good, actions=actions)
    await house.work()

    (row,) = await house.events()
    assert await kept(house) == {"act_1": row["uid"], "act_3": ""}
    assert stored.receipts[1].uid == row["uid"]
    assert await due(house) == ["act_1", "act_3"]


@pytest.mark.postgres
@pytest.mark.integration
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_actions_of_events_that_are_put_one_by_one(works: OpenWorks) -> None:
    """When only the database knows which event it refuses, the actions of the others are kept all the same."""
    house = await works(CONFIG)
    good, bad = make_event("good"), make_event("".join(hashlib.sha512(bytes([n])).hexdigest() for n in range(80)))
    actions = [action("act_1", good.uid), action("act_2", bad.uid), action("act_3", "evt_x", when="now")]
    await house.put(bad, good, actions=actions)

    (row,) = await house.events()
    assert await kept(house) == {"act_1": row["uid"], "act_3": ""}


async def test_actions_of_dropped_events_are_dropped(works: OpenWorks) -> None:
    """An action of an event that is not in the batch is kept only when it waits for none."""
    house = await works(CONFIG)
    await house.put(actions=[action("act_1", "evt_dropped"), action("act_2", "evt_refused", when="now")])

    assert await kept(house) == {"act_2": ""}
    assert await due(house) == ["act_2"]


@EVERYWHERE
async def test_a_resumed_run_lets_the_action_go_on(works: OpenWorks) -> None:
    """A failed run keeps the object where it is; resumed and succeeded, it lets it go."""
    house = await works(CONFIG)
    event = make_event("a")
    await house.put(event, actions=[action("act_1", event.uid)])
    (failed,) = await house.work(RunState.FAILED)
    seen = [await due(house)]
    assert isinstance(await house.resume(failed), Run)
    seen.append(await due(house))
    await house.work()

    assert seen == [[], []]
    assert await due(house) == ["act_1"]


async def test_an_event_that_nothing_wants_keeps_its_object(works: OpenWorks) -> None:
    """What never fires is never moved."""
    house = await works(make_config([make_trigger(filter={"exact": {"subject": "other"}})]))
    event = make_event("a")
    await house.put(event, actions=[action("act_1", event.uid), action("act_2", event.uid, when="accepted")])
    await house.work()

    assert await due(house) == []
    assert len(await kept(house)) == 2
