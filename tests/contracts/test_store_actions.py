"""What every store promises about actions on objects: kept with their event, due by its runs, forgotten with both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipelines.run import Run, RunState
from sensors.batch import ObjectAction
from tests.support.stores import T0, do, event, fired, run
from tidegate.lookup import StoreLookup
from tidegate.store.records import RunUpdate, StoredEvent
from tidegate.store.tx import Store, Tx
from triggers.decision import Outcome
from triggers.ports import RunKeyName, RunKeyState


def action(uid: str, causing: str = "evt_1", **fields: Any) -> ObjectAction:
    """Make an action that moves the object `in/a` once the runs of `causing` succeeded."""
    base: dict[str, Any] = {"key": "in/a", "etag": "e1", "what": "move", "when": "succeeded", "created_at": T0}
    return ObjectAction(uid=uid, event=causing, **{**base, "to": "archive/a", **fields})


async def keep(store: Store, *actions: ObjectAction, sensor: str = "s") -> None:
    """Insert actions and the events that they wait for."""

    def insert(tx: Tx) -> None:
        events = sorted({item.event for item in actions} - {""})
        fresh = [uid for uid in events if not known[uid]]
        tx.insert_events([StoredEvent(event(uid, sensor=sensor)) for uid in fresh])
        tx.insert_actions(sensor, actions)

    known = {
        item.event: await store.read(lambda reader, uid=item.event: reader.event(uid) is not None)  # type: ignore[misc]
        for item in actions
    }
    await do(store, insert)


async def start(store: Store, *runs: Run) -> None:
    """Insert runs as the latest of their keys."""

    def insert(tx: Tx) -> None:
        tx.insert_runs(runs, [])
        names = [RunKeyName(item.key_scope, item.pipeline, item.key) for item in runs]
        known = tx.lock_run_keys(names)
        tx.put_run_keys(
            [RunKeyState(n, known[n].generation + 1, item.uid) for n, item in zip(names, runs, strict=True)]
        )

    await do(store, insert)


async def end(store: Store, uid: str, state: RunState) -> None:
    """Bring a run to its end."""
    await do(store, lambda tx: tx.update_runs([RunUpdate(run=uid, fence=0, state=str(state), finished_at=T0)]))


async def due(store: Store, sensor: str = "s", limit: int = 100) -> list[str]:
    """Return the uids of actions whose time has come."""
    return [item.uid for item in await StoreLookup(store, sensor).due_actions(limit)]


async def open_for(store: Store, *keys: str) -> Mapping[str, Sequence[ObjectAction]]:
    """Return the open actions on these keys."""
    return await StoreLookup(store, "s").open_actions(keys)


async def test_an_action_comes_back_as_it_was(store: Store) -> None:
    """Every field survives the store, whatever text is in it."""
    full = action("act_1", key="in/ü/😀~", to="a'b\"\\/{key}", when="now", what="tag", tags={"é": "", "b": "\n"})
    bare = action("act_2", to="", when="now", what="delete")
    await keep(store, full, bare)

    assert list(await StoreLookup(store, "s").due_actions(10)) == [full, bare]
    assert await open_for(store, "in/ü/😀~", "none") == {"in/ü/😀~": [full]}


async def test_now_is_at_once_and_of_this_sensor(store: Store) -> None:
    """`now` waits for nothing; other sensors' actions are not seen, nor dropped; the oldest come first."""
    await keep(store, *[action(f"act_{n}", "", when="now") for n in (3, 1, 2)])
    await keep(store, action("act_0", "", when="now"), sensor="other")
    await do(store, lambda tx: tx.drop_actions("s", ["act_0", "act_2", "none"]))

    assert await due(store) == ["act_1", "act_3"]
    assert await due(store, limit=1) == ["act_1"]
    assert await due(store, "other") == ["act_0"]


async def test_an_action_is_kept_once(store: Store) -> None:
    """The same action again, after a commit whose answer was lost, changes nothing."""
    await keep(store, action("act_1", when="now"))
    await keep(store, action("act_1", when="now", to="elsewhere"))

    assert [item.to for item in await StoreLookup(store, "s").due_actions(10)] == ["archive/a"]


async def test_accepted_waits_for_a_run(store: Store) -> None:
    """`accepted` is due when this very event has a run, however it stands; `succeeded` is not due by that."""
    await keep(store, action("act_1", when="accepted"), action("act_2"), action("act_3", "evt_2", when="accepted"))
    before = await due(store)
    await start(store, run("run_1", events=("evt_1",)))

    assert before == []
    assert await due(store) == ["act_1"]


async def test_a_run_of_the_same_transaction_counts(store: Store) -> None:
    """When the event's run is there before the action is written, in one transaction as ever, it is due."""

    def ingest(tx: Tx) -> None:
        tx.insert_runs([run("run_1", events=("evt_1",))], [])
        tx.insert_actions("s", [action("act_1", when="accepted")])

    await do(store, ingest)

    assert await due(store) == ["act_1"]


async def test_an_event_merged_into_a_waiting_run_counts(store: Store) -> None:
    """An event that joins a queued run later has a run from then on."""
    await keep(store, action("act_1", "evt_2", when="accepted"))
    await start(store, run("run_1", events=("evt_1",)))
    before = await due(store)
    await do(store, lambda tx: tx.add_run_events("run_1", ["evt_1", "evt_2"], None))

    assert before == []
    assert await due(store) == ["act_1"]


@pytest.mark.parametrize("state", [state for state in RunState if state != RunState.SUCCEEDED])
async def test_succeeded_waits_for_all_runs(store: Store, state: RunState) -> None:
    """With two runs of an event, one that succeeded is not enough; nothing but success will do."""
    await keep(store, action("act_1"))
    await start(store, run("run_1", events=("evt_1",)), run("run_2", pipeline="q", events=("evt_1",)))
    await end(store, "run_1", RunState.SUCCEEDED)
    await end(store, "run_2", state)
    before = await due(store)
    await end(store, "run_2", RunState.SUCCEEDED)

    assert before == []
    assert await due(store) == ["act_1"]


async def test_a_resumed_run_makes_a_failure_good(store: Store) -> None:
    """A failed run blocks until a later run of its key has succeeded: being tried again is not enough."""
    await keep(store, action("act_1"))
    seen = []
    await start(store, run("run_1", key="k", events=("evt_1",)))
    await end(store, "run_1", RunState.FAILED)
    seen.append(await due(store))
    await start(store, run("run_2", key="k", generation=2, resumed_from="run_1", events=("evt_1",)))
    seen.append(await due(store))
    await end(store, "run_2", RunState.FAILED)
    seen.append(await due(store))
    await start(store, run("run_3", key="k", generation=3, events=("evt_9",)))  # tried again by another event
    await end(store, "run_3", RunState.SUCCEEDED)

    assert seen == [[], [], []]
    assert await due(store) == ["act_1"]


async def test_another_key_makes_nothing_good(store: Store) -> None:
    """Success of the same key in another pipeline or scope says nothing about the run that failed."""
    await keep(store, action("act_1"))
    await start(store, run("run_1", key="k", events=("evt_1",)))
    await end(store, "run_1", RunState.FAILED)
    await start(
        store,
        run("run_2", key="k", pipeline="q", events=("evt_9",)),
        run("run_3", key="k", key_scope="manual/p", events=("evt_9",)),
        run("run_4", key="other", events=("evt_9",)),
    )
    for uid in ("run_2", "run_3", "run_4"):
        await end(store, uid, RunState.SUCCEEDED)

    assert await due(store) == []


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.open])
async def test_succeeded_waits_for_open_decisions(store: Store, outcome: Outcome) -> None:
    """While a trigger still holds the event, a run of it may come: the object stays for that."""
    await keep(store, action("act_1"), action("act_2", when="accepted"))
    await start(store, run("run_1", events=("evt_1",)))
    await end(store, "run_1", RunState.SUCCEEDED)
    await do(store, lambda tx: tx.insert_decisions([fired("dec_1", ["evt_1"], outcome=outcome)]))
    before = await due(store)
    await do(store, lambda tx: tx.close_decisions(["dec_1"]))
    await do(store, lambda tx: tx.insert_decisions([fired("dec_2", ["evt_1"], outcome=Outcome.FIRED)]))

    assert before == ["act_2"]
    assert await due(store) == ["act_1", "act_2"]


async def test_many_that_wait_hide_none(store: Store) -> None:
    """Behind more actions of failed runs than are looked at in one go, one that is due is found."""
    waiting = [action(f"act_{n:04}", f"evt_{n:04}", key=f"k{n}") for n in range(1_203)]
    runs = [run(f"run_{n:04}", events=(f"evt_{n:04}",)) for n in range(1_203)]
    await keep(store, *waiting)
    await start(store, *runs)
    for n in (700, 1_202):
        await end(store, f"run_{n:04}", RunState.SUCCEEDED)

    assert await due(store) == ["act_0700", "act_1202"]
    assert await due(store, limit=1) == ["act_0700"]


async def test_open_actions_tell_our_own_writes(store: Store) -> None:
    """All open actions on a key are told, oldest first, due or not, until they are done."""
    first, second = action("act_1"), action("act_2", "evt_2", etag="e2")
    await keep(store, second, first, action("act_3", key="in/b"))
    both = await open_for(store, "in/a", "in/c")
    await do(store, lambda tx: tx.drop_actions("s", ["act_1"]))

    assert both == {"in/a": [first, second]}
    assert await open_for(store, "in/a") == {"in/a": [second]}
    assert await open_for(store) == {}


async def test_retention_takes_actions_with_their_events(store: Store) -> None:
    """An event that never fires takes its actions with it; those of events that stay remain."""
    await keep(store, action("act_1"), action("act_2", "evt_2"))
    await start(store, run("run_2", events=("evt_2",)))
    gone = await do(store, lambda tx: tx.prune("events", T0 + 1, 100))

    assert gone == 1
    assert list((await open_for(store, "in/a"))["in/a"]) == [action("act_2", "evt_2")]


async def test_retention_takes_actions_without_an_event_by_age(store: Store) -> None:
    """What waits for no event and was never done, its sensor being gone, is forgotten as old events are."""
    old, young = action("act_1", "", when="now"), action("act_2", "", when="now", created_at=T0 + 9)
    await keep(store, old, young)
    gone = await do(store, lambda tx: tx.prune("events", T0 + 1, 100))

    assert gone == 1
    assert await due(store) == ["act_2"]


async def test_a_forgotten_run_leaves_no_action_behind(store: Store) -> None:
    """When a failed run is forgotten, nobody knows any more that it failed: its event's actions are never done."""
    await keep(store, action("act_1"), action("act_2", "evt_3"))
    await start(store, run("run_1", events=("evt_1",)), replace(run("run_2", events=("evt_1",)), created_at=T0 + 99))
    await end(store, "run_1", RunState.FAILED)
    await end(store, "run_2", RunState.SUCCEEDED)
    gone = await do(store, lambda tx: tx.prune("runs", T0 + 1, 100))

    assert gone == 1
    assert await due(store) == []
    assert list((await open_for(store, "in/a"))["in/a"]) == [action("act_2", "evt_3")]
