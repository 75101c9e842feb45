"""What every store promises about replays: once per request, moved as they are, one run for each item."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.run import RunState
from sensors.batch import DeadLetter
from sensors.uid import REPLAY, TRIGGER_EVENT, make_uid
from tests.support.stores import T0, add_runs, do, event, fired, run, trigger_event
from tidegate.store.records import StoredEvent
from tidegate.store.replay_records import Replay, ReplayedRun, ReplaySpec, ReplayState
from tidegate.store.tx import ItemRefused, Store, Tx

FULL = ReplaySpec(
    events=("evt_1", "evt_2"),
    letters=("ddl_1", "ddl_2"),
    trigger="t' \" %s ?",
    since=T0,
    until=T0 + 1,
    partition="é",
    pipeline="p",
    as_was=True,
    rate=0.5,
    dry_run=True,
)


def replay(n: int, **fields: Any) -> Replay:
    """Make the replay `n`."""
    values: dict[str, Any] = {
        "uid": make_uid(REPLAY, T0 + n * 1_000, bytes(10)),
        "request_id": f"r-{n}",
        "spec": ReplaySpec(events=(f"evt_{n}",)),
        "created_at": T0 + n,
    }
    return Replay(**{**values, **fields})


def firing(n: int, **fields: Any) -> Any:
    """Make the trigger event `n`, of another millisecond each."""
    return trigger_event(make_uid(TRIGGER_EVENT, T0 + n * 1_000, bytes(10)), ["evt_1"], at=T0 + n * 1_000, **fields)


async def keep(store: Store, *replays: Replay, most: int = 100) -> list[Replay | None]:
    return await do(store, lambda tx: [tx.insert_replay(one, most) for one in replays])


async def test_a_replay_comes_back_as_it_was_kept(store: Store) -> None:
    """Every field of a replay and of what was asked for survives, and what moves can be written anew."""
    full = replay(1, spec=FULL)
    bare = replay(2)
    await keep(store, full, bare)
    moved = replace(
        full,
        state=ReplayState.RUNNING,
        position='[["é",1],""]',
        counts={"looked": 2**40, "started": 1},
        samples=({"outcome": "error", "cause": "evt_1", "reason": "é ' \" ?", "item": 3},),
        next_at=T0 + 5,
        holder="me",
        lease_until=T0 + 6,
        reason="waits",
    )
    await do(store, lambda tx: tx.put_replay(replace(moved, spec=ReplaySpec(), request_id="other")))
    found = await do(store, lambda tx: (tx.lock_replay(full.uid), tx.lock_replay("rpl_none")))

    assert found == (moved, None)
    assert await store.read(lambda reader: reader.replay(bare.uid)) == bare
    assert await store.read(lambda reader: reader.replay("rpl_none")) is None


async def test_a_request_is_kept_once(store: Store) -> None:
    """The second replay of the same request answers the first one; above the bound none is kept but known ones."""
    first, again = await keep(store, replay(1), replace(replay(2), request_id="r-1"), most=1)
    refused, known = await keep(store, replay(3), replace(replay(4), request_id="r-1"), most=1)
    await do(store, lambda tx: tx.put_replay(replace(replay(1), state=ReplayState.CANCELLED, finished_at=T0)))
    (later,) = await keep(store, replay(3), most=1)

    assert first == again == known == replay(1)
    assert refused is None
    assert later == replay(3)


async def test_what_is_due_and_lists(store: Store) -> None:
    """What has not ended comes in the order in which it is due; lists page newest first, by state if asked."""
    done = replay(3, state=ReplayState.SUCCEEDED, finished_at=T0)
    await keep(store, replay(1, next_at=9), replay(2, next_at=3), done, replay(4, state=ReplayState.RUNNING))
    due = await store.read(lambda reader: reader.due_replays(10))
    first, cursor = await store.read(lambda reader: reader.replays(limit=3))
    rest, end = await store.read(lambda reader: reader.replays(limit=3, cursor=cursor))
    queued, _ = await store.read(lambda reader: reader.replays(limit=9, state="queued"))

    assert [one.request_id for one in due] == ["r-4", "r-2", "r-1"]
    assert [one.request_id for one in (*first, *rest)] == ["r-4", "r-3", "r-2", "r-1"]
    assert end is None
    assert [one.request_id for one in queued] == ["r-2", "r-1"]


async def test_an_item_has_one_run(store: Store) -> None:
    """A second run for the same item is refused with all that comes with it; other items and replays have their own."""
    row = ReplayedRun("rpl_1", "evt_1", "t", 0, -1, "run_1", "run_0")
    await do(
        store,
        lambda tx: tx.insert_replayed(
            [row, replace(row, item=0, run="run_2", origin=None), replace(row, replay="rpl_2", run="run_3")]
        ),
    )
    with pytest.raises(ItemRefused):
        await do(store, lambda tx: tx.insert_replayed([replace(row, run="run_4")]))
    found = await do(store, lambda tx: set(tx.replayed("rpl_1", ["evt_1", "evt_9"])))

    assert found == {("evt_1", "t", 0, -1), ("evt_1", "t", 0, 0)}
    assert await store.read(lambda reader: reader.replay_of("run_1")) == row
    assert await store.read(lambda reader: reader.replay_of("run_4")) is None


async def test_runs_of_a_replay_are_listed(store: Store) -> None:
    """They page newest first, with what is known of each; of a pruned one nothing is."""
    rows = [ReplayedRun("rpl_1", f"evt_{n}", "t", 0, -1, f"run_{n}", None) for n in range(4)]
    await add_runs(store, run("run_1", partition="x", generation=2), run("run_2"), run("run_3"))
    await do(store, lambda tx: tx.insert_replayed([*rows, replace(rows[0], replay="rpl_2", run="run_9")]))
    first, cursor = await store.read(lambda reader: reader.replayed_runs("rpl_1", limit=3))
    last, end = await store.read(lambda reader: reader.replayed_runs("rpl_1", limit=3, cursor=cursor))

    assert [row["run"] for row in (*first, *last)] == ["run_3", "run_2", "run_1", "run_0"]
    assert end is None
    assert dict(first[2]) == {
        "replay": "rpl_1",
        "cause": "evt_1",
        "trigger": "t",
        "rule": 0,
        "item": -1,
        "run": "run_1",
        "origin": None,
        "pipeline": "p",
        "state": "queued",
        "partition": "x",
        "generation": 2,
    }
    assert (last[0]["pipeline"], last[0]["state"]) == (None, None)


async def test_what_fired_of_an_event(store: Store) -> None:
    """The first run of each trigger event: neither one that was resumed from it, nor one of a replay, nor by hand."""
    one, two = firing(1), firing(2)
    runs = [
        run("run_1", trigger_event=one.uid, events=("evt_1", "evt_2")),
        run("run_2", trigger_event=one.uid, events=("evt_1",), resumed_from="run_1"),
        run("run_3", trigger_event=two.uid, events=("evt_1",)),
        run("run_4", events=("evt_1",)),
    ]
    await add_runs(store, *runs)
    decisions = [
        fired("dec_1", ["evt_1"], trigger_event=one.uid, item=4, details={"rule": 2}),
        fired("dec_2", ["evt_1"], trigger_event=two.uid),
    ]

    def write(tx: Tx) -> None:
        tx.insert_trigger_events([one, two])
        tx.insert_decisions(decisions[:1])
        tx.insert_replayed([ReplayedRun("rpl_1", "evt_1", "t", 0, -1, "run_3")])

    await do(store, write)
    by_event = await do(store, lambda tx: dict(tx.fired_by_events(["evt_1", "evt_2", "evt_9"])))
    whole = await do(store, lambda tx: dict(tx.fired_as([one.uid, two.uid, "trg_none"])))
    items = await do(store, lambda tx: dict(tx.fired_items([one.uid, two.uid])))

    assert {uid: [found.uid for found in runs] for uid, runs in by_event.items()} == {
        "evt_1": ["run_1"],
        "evt_2": ["run_1"],
    }
    assert by_event["evt_1"][0].events == ("evt_1", "evt_2")
    assert {uid: (fired_, found.uid) for uid, (fired_, found) in whole.items()} == {
        one.uid: (replace(one, events=()), "run_1")
    }
    assert items == {one.uid: (2, 4)}


async def test_pruned_runs_are_forgotten_not_unknown(store: Store) -> None:
    """An event tells which of its runs were pruned; a replay's run leaves an arrow from the run that it replays."""
    await add_runs(
        store,
        run("run_1", state=RunState.SUCCEEDED, finished_at=T0, events=("evt_1",)),
        run("run_2", state=RunState.SUCCEEDED, finished_at=T0, events=("evt_1",)),
    )
    await do(store, lambda tx: tx.insert_replayed([ReplayedRun("rpl_1", "evt_1", "t", 0, -1, "run_2", "run_1")]))
    before = await store.read(lambda reader: reader.lineage(run="run_2"))
    await do(store, lambda tx: tx.prune("runs", T0 + 1, 10))
    forgotten = await do(store, lambda tx: {uid: list(runs) for uid, runs in tx.forgotten_runs(["evt_1", "x"]).items()})
    after = await store.read(lambda reader: reader.lineage(run="run_1"))

    arrow = {"from": "run_1", "to": "run_2", "kind": "replayed", "rows": None}
    assert arrow in before["edges"]
    assert arrow in after["edges"]
    assert forgotten == {"evt_1": ["run_1", "run_2"]}
    assert await store.read(lambda reader: reader.replay_of("run_2")) is None


async def test_events_come_in_order_of_arrival(store: Store) -> None:
    """Pages over several sensors hold each event once, oldest first, by moment and uid, before the end."""
    items = [event(f"evt_{n:02}", sensor=f"s{n % 3}", received_at=T0 + n // 2, data=bytes(n)) for n in range(20)]
    await do(store, lambda tx: tx.insert_events([StoredEvent(item) for item in reversed(items)]))
    found: list[tuple[int, str, int]] = []
    place = (T0 + 1, "")
    while page := await store.read(
        lambda reader, at=place: reader.received_between(["s0", "s1"], at, T0 + 9, 3)  # type: ignore[misc]
    ):
        assert len(page) <= 3
        found += page
        place = (page[-1][0], page[-1][1])

    wanted = [item for item in items if item.sensor != "s2" and T0 + 1 <= item.received_at < T0 + 9]
    assert found == [(item.received_at, item.uid, len(item.data or b"")) for item in wanted]


async def test_trigger_events_come_in_order_of_firing(store: Store) -> None:
    """A look is bounded by what it looks at, and says where it stopped; those of replays and other triggers are not
    among what it finds."""
    firings = [firing(n, trigger="t" if n % 2 else "u") for n in range(10)]
    await do(store, lambda tx: tx.insert_trigger_events(firings))
    await add_runs(store, *(run(f"run_{n}", trigger_event=one.uid) for n, one in enumerate(firings)))
    await do(store, lambda tx: tx.insert_replayed([ReplayedRun("rpl_1", "x", "t", 0, -1, "run_5")]))
    low, high = firings[0].uid, firings[9].uid
    first, reached = await store.read(lambda reader: reader.fired_between("t", low, high, 4))
    rest, end = await store.read(lambda reader: reader.fired_between("t", reached, high, 40))

    assert list(first) == [firings[1].uid, firings[3].uid]
    assert reached == firings[4].uid
    assert (list(rest), end) == ([firings[7].uid], "")


async def test_letters_are_dealt_with_once(store: Store) -> None:
    """A letter that something came of is open no more and says what; dropping it forgets that as well."""
    letters = [(f"ddl_{n}", "s", T0, DeadLetter("bad" if n else "odd", "", "")) for n in range(3)]
    await do(store, lambda tx: tx.insert_dead_letters(letters))
    marked = await do(store, lambda tx: tx.mark_letters({"ddl_0": "evt_1", "ddl_9": "evt_2"}))
    await do(store, lambda tx: tx.mark_letters({"ddl_0": "evt_3"}))
    open_ = await do(store, lambda tx: set(tx.open_letters(["ddl_0", "ddl_1", "ddl_9"])))
    row = await store.read(lambda reader: reader.dead_letter("ddl_0"))
    waiting, _ = await store.read(lambda reader: reader.dead_letters(limit=9, retried=False))
    done, _ = await store.read(lambda reader: reader.dead_letters(limit=9, retried=True))
    bad, _ = await store.read(lambda reader: reader.dead_letters(limit=9, reason="bad", retried=False))
    await do(store, lambda tx: tx.drop_dead_letters(["ddl_0"]))
    await do(store, lambda tx: tx.insert_dead_letters(letters[:1]))

    assert (marked, open_) == (1, {"ddl_1"})
    assert row is not None
    assert (row["became"], row["retried_at"] is not None) == ("evt_3", True)
    assert [one["uid"] for one in waiting] == ["ddl_2", "ddl_1"]
    assert [one["uid"] for one in done] == ["ddl_0"]
    assert [one["uid"] for one in bad] == ["ddl_2", "ddl_1"]
    assert await do(store, lambda tx: set(tx.open_letters(["ddl_0"]))) == {"ddl_0"}


async def test_replays_and_letters_are_forgotten_when_they_are_old(store: Store) -> None:
    """Replays that ended long ago go, and letters that were dealt with; what is under way or waits stays."""
    await keep(store, replay(1, state=ReplayState.FAILED, finished_at=T0), replay(2), replay(3, finished_at=T0 + 9))
    await do(store, lambda tx: tx.insert_dead_letters([(f"ddl_{n}", "s", T0, DeadLetter("b", "", "")) for n in (1, 2)]))
    await do(store, lambda tx: tx.mark_letters({"ddl_1": "evt_1"}))
    gone = await do(store, lambda tx: tx.prune("replays", T0 + 5, 10))
    later = await do(store, lambda tx: tx.prune("replays", tx.now() + 1, 10))
    left, _ = await store.read(lambda reader: reader.replays(limit=9))
    letters, _ = await store.read(lambda reader: reader.dead_letters(limit=9))

    assert (gone, later) == (1, 2)
    assert [one.request_id for one in left] == ["r-2"]
    assert [one["uid"] for one in letters] == ["ddl_2"]
