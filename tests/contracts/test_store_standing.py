"""What every store tells of how events stand: which are remembered, and which are not done with."""

from pipelines.run import RunState
from tests.support.stores import do, event, fired, ingest, run
from tidegate.lookup import StoreLookup
from tidegate.store.records import RunUpdate
from tidegate.store.tx import Store
from triggers.decision import Outcome


async def test_remembered_events_are_found_by_their_ids(store: Store) -> None:
    """The uid is that of the first event of an id; other sensors' ids and unknown ones are not there."""
    await do(store, lambda tx: [ingest(tx, event("evt_1", id="a")), ingest(tx, event("evt_2", id="a"))])
    await do(store, lambda tx: ingest(tx, event("evt_3", id="b", sensor="other")))

    assert await StoreLookup(store, "hook").known(["a", "b", "none"]) == {"a": "evt_1"}
    assert await StoreLookup(store, "hook").known([]) == {}


async def test_an_event_is_unfinished_while_a_run_of_it_has_not_ended(store: Store) -> None:
    """Queued, running and cancelling runs keep it; however they end, it is done with. One without runs always is."""
    lookup = StoreLookup(store, "hook")
    uids = [f"evt_{state}" for state in RunState]
    await do(store, lambda tx: [ingest(tx, event(uid)) for uid in (*uids, "evt_none")])
    runs = [run(f"run_{state}", state=state, events=[f"evt_{state}"]) for state in RunState]
    await do(store, lambda tx: tx.insert_runs(runs, []))

    unfinished = await lookup.unfinished([*uids, "evt_none", "evt_unknown"])
    assert unfinished == {"evt_queued", "evt_running", "evt_cancelling"}
    assert await lookup.unfinished(["evt_failed"]) == set()
    assert await lookup.unfinished([]) == set()


async def test_one_of_several_runs_is_enough(store: Store) -> None:
    """An event is done with when the last of its runs has ended."""
    lookup = StoreLookup(store, "hook")
    await do(store, lambda tx: ingest(tx, event("evt_1")))
    await do(store, lambda tx: tx.insert_runs([run(f"run_{n}", events=["evt_1"]) for n in range(2)], []))
    for n in range(2):
        assert await lookup.unfinished(["evt_1"]) == {"evt_1"}
        done = [RunUpdate(run=f"run_{n}", fence=0, state=str(RunState.FAILED))]
        await do(store, lambda tx, done=done: tx.update_runs(done))  # type: ignore[misc]
    assert await lookup.unfinished(["evt_1"]) == set()


async def test_an_open_decision_keeps_an_event(store: Store) -> None:
    """What a trigger waits with or holds is not done with; what it decided against is."""
    lookup = StoreLookup(store, "hook")
    outcomes = list(Outcome)
    await do(store, lambda tx: [ingest(tx, event(f"evt_{outcome}")) for outcome in outcomes])
    decisions = [fired(f"dec_{outcome}", [f"evt_{outcome}"], outcome=outcome) for outcome in outcomes]
    await do(store, lambda tx: tx.insert_decisions(decisions))

    found = await lookup.unfinished([f"evt_{outcome}" for outcome in outcomes])
    assert found == {f"evt_{outcome}" for outcome in outcomes if outcome.open}
