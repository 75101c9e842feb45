"""What every store promises about run keys, lanes, claims, leases, fences and the records of runs."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, TaskState
from tests.support.stores import T0, add_runs, claim, do, run, task, uids
from tidegate.store.reader import Reader
from tidegate.store.records import ClaimAsk, RunUpdate, Timer
from tidegate.store.tx import ItemRefused, Store
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState

KEY = RunKeyName("trigger/t", "p", "k")
FULL = run(
    "run_full",
    key="schlüssel",
    generation=2,
    trigger="t",
    trigger_event="trg_1",
    params={"a": [1, {"b": None}], "ø": "x"},
    partition="2026-01-01",
    lane="north",
    depth=2,
    span="00-a",
    run_span="00-b",
    resumed_from="run_old",
    config_hash="abc",
    events=("evt_2", "evt_1"),
)


async def test_a_run_comes_back_as_it_was(store: Store) -> None:
    """A run is read as it was written, with the order of its events and a sequence number."""
    await add_runs(store, FULL)
    found = await store.read(lambda reader: reader.run("run_full"))
    inside = await do(store, lambda tx: tx.get_runs(["run_full", "none"]))

    assert found is not None
    assert found == replace(FULL, seq=found.seq)
    assert found.seq > 0
    assert inside == {"run_full": found}
    assert await store.read(lambda reader: reader.run("none")) is None


async def test_tasks_keep_their_order_and_are_replaced(store: Store) -> None:
    """Task runs come in the order of their insertion, also after they were replaced; new ones go behind."""
    first, second = task("tsk_z", "run_1"), task("tsk_a", "run_1", partition="p1")
    await do(store, lambda tx: tx.insert_runs([run("run_1")], [first, second]))
    done = replace(
        first,
        state=TaskState.SUCCEEDED,
        attempt=2,
        failures=1,
        lost=1,
        engine="python",
        engine_key="key",
        handle="{}",
        started_at=1,
        finished_at=2,
        next_at=3,
        output='{"rows":1}',
        error="e",
        error_kind="k",
        span="00-t",
        cpu_seconds=0.25,
        peak_rss_bytes=2**40,
    )
    await do(store, lambda tx: tx.upsert_tasks([done, task("tsk_0", "run_1"), done]))

    expected = [done, second, task("tsk_0", "run_1")]
    assert list(await do(store, lambda tx: tx.get_tasks("run_1"))) == expected
    assert list(await store.read(lambda reader: reader.tasks("run_1"))) == expected


# -- keys and lanes ----------------------------------------------------------------------------------------------------
async def test_run_keys_tell_the_state_of_their_last_run(store: Store) -> None:
    """A locked key that was never used is generation 0; a used one tells its last run's present state."""
    other = RunKeyName("pipeline/p", "p", "k")
    fresh = await do(store, lambda tx: tx.lock_run_keys([KEY, other]))

    def use(tx: Any) -> None:
        tx.lock_run_keys([KEY])
        tx.insert_runs([run("run_1")], [])
        tx.put_run_keys([RunKeyState(KEY, 1, "run_1", "queued")])

    await do(store, use)
    used = await do(store, lambda tx: tx.lock_run_keys([KEY]))
    await do(store, lambda tx: tx.request_cancel("run_1", "because"))
    ended = await do(store, lambda tx: tx.lock_run_keys([KEY, other]))

    assert fresh == {KEY: RunKeyState(KEY), other: RunKeyState(other)}
    assert used == {KEY: RunKeyState(KEY, 1, "run_1", "queued")}
    assert ended == {KEY: RunKeyState(KEY, 1, "run_1", "cancelled"), other: RunKeyState(other)}


async def test_lanes_name_who_is_active_and_who_waits(store: Store) -> None:
    """A lane lists its unfinished runs in arrival order; the empty lane is the pipeline as a whole."""
    await add_runs(
        store, run("r1", lane="a"), run("r2", lane="b"), run("r3", lane="a"), run("r4"), run("x", pipeline="q")
    )
    await claim(store, 2)
    names = [LaneName("p", "a"), LaneName("p", "b"), LaneName("p", "none"), LaneName("p", "")]
    lanes = await do(store, lambda tx: tx.lock_lanes(names))

    assert lanes == {
        names[0]: LaneState(names[0], ("r1",), ("r3",)),
        names[1]: LaneState(names[1], ("r2",), ()),
        names[2]: LaneState(names[2]),
        names[3]: LaneState(names[3], ("r1", "r2"), ("r3", "r4")),
    }


async def test_events_merge_into_a_waiting_run(store: Store) -> None:
    """Coalescing adds the events that are new, in order, and replaces the parameters when there are newer ones."""
    await add_runs(store, run("r1", events=("e1",), params={"n": 1}))
    await do(store, lambda tx: tx.add_run_events("r1", ["e1", "e2"], None))
    await do(store, lambda tx: tx.add_run_events("r1", ["e3", "e2"], {"n": 2}))
    found = await store.read(lambda reader: reader.run("r1"))

    assert found is not None
    assert found.events == ("e1", "e2", "e3")
    assert found.params == {"n": 2}


async def test_events_never_merge_into_a_run_that_started(store: Store) -> None:
    """An event merged into a run that no longer waits would be lost, so it is refused."""
    await add_runs(store, run("r1"))
    await claim(store)
    with pytest.raises(ItemRefused, match="does not wait any more"):
        await do(store, lambda tx: tx.add_run_events("r1", ["e1"], None))


# -- claims ------------------------------------------------------------------------------------------------------------
async def test_claims_are_oldest_first_and_complete(store: Store) -> None:
    """A claim takes the oldest runs over all pipelines and brings tasks, events and definition."""
    await add_runs(store, run("r1", pipeline="z"), run("r2", pipeline="a", events=("e1",)), run("r3", pipeline="z"))
    rows = await claim(store, 2, holder="h", lease=1_000_000)
    now = await do(store, lambda tx: tx.now())

    assert uids(rows) == ["r1", "r2"]
    taken = rows[1].run
    assert (taken.state, taken.holder, taken.fence, taken.events) == (RunState.RUNNING, "h", 1, ("e1",))
    assert taken.started_at is not None
    assert taken.lease_until == taken.started_at + 1_000_000
    assert abs(taken.started_at - now) < 60_000_000
    assert [item.uid for item in rows[1].tasks] == ["tsk_r2"]
    assert rows[1].definition == "{}"
    assert not rows[1].taken_over
    assert uids(await claim(store)) == ["r3"]
    assert uids(await claim(store)) == []


async def test_each_ask_gets_its_share(store: Store) -> None:
    """Several asks in one group get disjoint runs, up to their limits."""
    await add_runs(store, *[run(f"r{n}") for n in range(5)])
    asks = [ClaimAsk("a", 2, 60_000_000, 0), ClaimAsk("b", 0, 60_000_000, 0), ClaimAsk("c", 9, 60_000_000, 0)]
    rows = await do(store, lambda tx: tx.claim_runs(asks, {}))

    assert [uids(list(group)) for group in rows] == [["r0", "r1"], [], ["r2", "r3", "r4"]]
    assert {row.run.holder for row in rows[2]} == {"c"}


async def test_a_lane_goes_one_at_a_time_in_order(store: Store) -> None:
    """Of one lane only the oldest unfinished run is ever claimed; the next one follows when it has ended."""
    await add_runs(store, run("a1", lane="a"), run("a2", lane="a"), run("b1", lane="b"), run("n1"), run("n2"))
    first = await claim(store)
    await do(store, lambda tx: tx.update_runs([RunUpdate(run="a1", fence=1, state="failed", finished_at=1)]))
    second = await claim(store)

    assert uids(first) == ["a1", "b1", "n1", "n2"]
    assert uids(second) == ["a2"]


async def test_a_cancelling_run_still_holds_its_lane_and_room(store: Store) -> None:
    """A run that is being stopped counts as running until it has ended."""
    await add_runs(store, run("a1", lane="a"), run("a2", lane="a"), run("n1"))
    await claim(store, 1)
    await do(store, lambda tx: tx.request_cancel("a1", "stop"))

    assert uids(await claim(store, concurrency={"p": 1})) == []
    assert uids(await claim(store, concurrency={"p": 2})) == ["n1"]


async def test_concurrency_counts_over_claims(store: Store) -> None:
    """No more runs of a pipeline are under way than it allows; 16 where it says nothing; others are not held up."""
    await add_runs(store, *[run(f"p{n:02}") for n in range(20)], *[run(f"q{n:02}", pipeline="q") for n in range(20)])
    first = await claim(store, 10, concurrency={"p": 3})
    second = await claim(store, 100, concurrency={"p": 3})
    third = await claim(store, 100, concurrency={"p": 5})

    assert uids(first) == [*[f"p{n:02}" for n in range(3)], *[f"q{n:02}" for n in range(7)]]
    assert uids(second) == [f"q{n:02}" for n in range(7, 16)]
    assert uids(third) == ["p03", "p04"]


async def test_runs_behind_a_long_lane_are_found(store: Store) -> None:
    """A thousand runs that wait for their lane hide neither runs without a lane nor those of other lanes."""
    long = [run(f"a{n:04}", lane="a") for n in range(1_000)]
    await add_runs(store, *long, *[run(f"b{n}", lane=f"b{n}") for n in range(3)], run("free"))
    rows = await claim(store)

    assert sorted(uids(rows)) == ["a0000", "b0", "b1", "b2", "free"]


async def test_an_ended_lease_is_taken_over_with_a_higher_fence(store: Store) -> None:
    """Only after lease and grace may another holder take a run: running stays running, cancelling stays cancelling."""
    await add_runs(store, run("r1"), run("r2"), run("r3"))
    await claim(store, 1, holder="alive", lease=60_000_000)
    await claim(store, 2, holder="old", lease=-1_000_000)
    await do(store, lambda tx: tx.request_cancel("r3", "stop"))
    early = await claim(store, holder="new", grace=600_000_000)
    late = await claim(store, holder="new", grace=0)

    assert uids(early) == []
    assert uids(late) == ["r2", "r3"]
    assert [(row.taken_over, row.run.fence, row.run.holder) for row in late] == [(True, 2, "new")] * 2
    assert [row.run.state for row in late] == [RunState.RUNNING, RunState.CANCELLING]
    assert [row.run.cancel_reason for row in late] == [None, "stop"]


async def test_takeover_ignores_concurrency_and_respects_the_limit(store: Store) -> None:
    """Lost runs were counted already: they are taken over first, whatever the concurrency, never beyond the limit."""
    await add_runs(store, run("r1"), run("r2"), run("r3"))
    await claim(store, 2, lease=-1)
    rows = await claim(store, 1, concurrency={"p": 1})

    assert uids(rows) == ["r1"]
    assert rows[0].taken_over


async def test_renewal_tells_what_is_lost_and_what_to_stop(store: Store) -> None:
    """Renewal extends only the holder's own leases and names runs of others, unknown runs, and cancel requests."""
    await add_runs(store, run("r1"), run("r2"), run("r3"))
    await claim(store, 1, holder="other")
    await claim(store, 2, holder="me", lease=-5)
    await do(store, lambda tx: tx.request_cancel("r3", "enough"))
    lost, cancel = await do(store, lambda tx: tx.renew("me", ["r1", "r2", "r3", "none"], 60_000_000))
    rows = await claim(store, holder="thief")

    assert list(lost) == ["r1", "none"]
    assert cancel == {"r3": "enough"}
    assert uids(rows) == []


async def test_a_lease_can_be_given_up(store: Store) -> None:
    """A renewal into the past frees the runs for anyone, whatever the grace."""
    await add_runs(store, run("r1"))
    await claim(store, holder="me")
    await do(store, lambda tx: tx.renew("me", ["r1"], -3_600_000_000))
    rows = await claim(store, holder="next", grace=60_000_000)

    assert uids(rows) == ["r1"]
    assert rows[0].taken_over


async def test_a_stale_fence_changes_nothing(store: Store) -> None:
    """An update under an old fence is without effect; under the present one it applies and leaves the rest alone."""
    await add_runs(store, run("r1"))
    await claim(store, holder="old", lease=-1)
    await claim(store, holder="new")

    def update(tx: Any) -> Any:
        fences = tx.fences(["r1", "none"])
        tx.update_runs([RunUpdate(run="r1", fence=1, state="failed", error="stale")])
        tx.update_runs([RunUpdate(run="r1", fence=2, error="first"), RunUpdate(run="r1", fence=2, state="succeeded")])
        tx.update_runs([RunUpdate(run="r1", fence=2, finished_at=9)])
        return fences

    fences = await do(store, update)
    found = await store.read(lambda reader: reader.run("r1"))

    assert fences == {"r1": 2}
    assert found is not None
    assert (found.state, found.error, found.finished_at, found.holder) == (RunState.SUCCEEDED, "first", 9, "new")


async def test_cancelling(store: Store) -> None:
    """A waiting run is cancelled at once with its tasks, a running one is asked, an ended one stays as it is."""
    await add_runs(store, run("r1"), run("r2"))
    await claim(store, 1)

    def cancel(tx: Any) -> Any:
        states = [tx.request_cancel(uid, "why") for uid in ("r1", "r2", "r2", "none")]
        return states, tx.get_tasks("r1")[0].state, tx.get_tasks("r2")[0].state, tx.get_runs(["r1", "r2"])

    states, running, waiting, rows = await do(store, cancel)

    assert states == ["cancelling", "cancelled", "cancelled", None]
    assert (running, waiting) == (TaskState.PENDING, TaskState.CANCELLED)
    assert rows["r1"].cancel_reason == rows["r2"].cancel_reason == "why"
    assert rows["r2"].finished_at is not None
    assert uids(await claim(store)) == []


# -- records -----------------------------------------------------------------------------------------------------------
async def test_run_lists_filter_and_page(store: Store) -> None:
    """Runs are listed newest first by every filter, and pages neither repeat nor skip."""
    await add_runs(
        store,
        run("r1", trigger="t", partition="d1", events=("e1",), created_at=T0),
        run("r2", pipeline="q", trigger="u", events=("e1", "e2"), created_at=T0 + 1),
        run("r3", trigger="t", partition="d2", created_at=T0 + 2),
    )
    await claim(store, 1)

    def look(reader: Reader) -> list[list[str]]:
        asks: list[dict[str, Any]] = [
            {},
            {"pipeline": "p"},
            {"state": "queued"},
            {"trigger": "t"},
            {"event": "e1"},
            {"partition": "d2"},
            {"since": T0 + 1},
            {"until": T0 + 1},
        ]
        return [[row["uid"] for row in reader.runs(limit=10, **ask)[0]] for ask in asks]

    assert await store.read(look) == [
        ["r3", "r2", "r1"],
        ["r3", "r1"],
        ["r3", "r2"],
        ["r3", "r1"],
        ["r2", "r1"],
        ["r3"],
        ["r3", "r2"],
        ["r1"],
    ]
    page, cursor = await store.read(lambda reader: reader.runs(limit=2))
    await add_runs(store, run("r4"))
    rest, end = await store.read(lambda reader: reader.runs(limit=2, cursor=cursor))
    assert [[row["uid"] for row in rows] for rows in (page, rest)] == [["r3", "r2"], ["r1"]]
    assert end is None


async def test_a_run_row_is_the_run(store: Store) -> None:
    """A row of the list holds every field of the run but its events."""
    await add_runs(store, FULL)
    rows, _ = await store.read(lambda reader: reader.runs(limit=1))
    found = await store.read(lambda reader: reader.run("run_full"))

    expected = {name: getattr(found, name) for name in Run.__dataclass_fields__ if name != "events"}
    assert rows[0] == expected


async def test_logs_follow_a_position(store: Store) -> None:
    """Log lines come in order behind a position, by task, and the answer names the position reached."""
    lines = [LogLine("r1", f"t{n % 2}", 1, T0 + n, "stdout", f"line {n}") for n in range(5)]
    await do(store, lambda tx: tx.insert_logs([*lines[:3], LogLine("r2", "t0", 1, T0, "stderr", "other"), *lines[3:]]))
    first, place = await store.read(lambda reader: reader.logs("r1", limit=2))
    rest, end = await store.read(lambda reader: reader.logs("r1", after=place))
    none, same = await store.read(lambda reader: reader.logs("r1", after=end))
    one, _ = await store.read(lambda reader: reader.logs("r1", task="t1"))

    assert [row["text"] for row in [*first, *rest]] == [line.text for line in lines]
    assert first[0] == {
        "position": first[0]["position"],
        "run": "r1",
        "task": "t0",
        "attempt": 1,
        "at": T0,
        "stream": "stdout",
        "text": "line 0",
    }
    assert (list(none), same) == ([], end)
    assert [row["text"] for row in one] == ["line 1", "line 3"]


def write(name: str, **fields: Any) -> DatasetWrite:
    """Make a dataset write."""
    return DatasetWrite(**{"namespace": "duckdb://w", "name": name, "task": "a", "at": T0, **fields})


async def test_datasets_show_their_last_write(store: Store) -> None:
    """A dataset is listed by name with its last write; one that was only read is listed too."""
    check = CheckResult(check="rows", task="a", dataset="b", passed=True, severity="fail", message="ok", at=T0)
    await do(store, lambda tx: tx.insert_datasets("r1", [write("b", rows=1), write("a", mode="read")], [check]))
    last = write("b", rows=2, bytes=10, schema=(("id", "int"), ("n", "str")), version="v2", at=T0 + 1)
    await do(store, lambda tx: tx.insert_datasets("r2", [last, write("b", mode="read", at=T0 + 9)], []))
    page, cursor = await store.read(lambda reader: reader.datasets(limit=1))
    rest, _ = await store.read(lambda reader: reader.datasets(limit=9, cursor=cursor))

    assert [(row["name"], row["mode"]) for row in [*page, *rest]] == [("a", "read"), ("b", "write")]
    assert rest[0] == {
        "namespace": "duckdb://w",
        "name": "b",
        "run": "r2",
        "task": "a",
        "at": T0 + 1,
        "mode": "write",
        "rows": 2,
        "bytes": 10,
        "schema": [["id", "int"], ["n", "str"]],
        "version": "v2",
        "dataset": None,
        "disposition": None,
        "partition": None,
        "changes": {},
    }


async def test_the_queue_is_counted_by_pipeline_and_state(store: Store) -> None:
    """The queue tells how many runs wait, run and stop in each pipeline, and how long the oldest has waited."""
    now = await do(store, lambda tx: tx.now())
    await add_runs(
        store,
        run("r1", created_at=now),
        run("r2", created_at=now),
        run("r3", lane="a", created_at=now - 7_000_000),
        run("r4", lane="a", created_at=now),
        run("q1", pipeline="q"),
    )
    await claim(store, 2)
    await do(store, lambda tx: tx.request_cancel("r2", "x"))
    await do(store, lambda tx: tx.request_cancel("q1", "x"))
    queue = await store.read(lambda reader: reader.queue())

    assert {name: {k: n for k, n in states.items() if k != "oldest"} for name, states in queue.items()} == {
        "p": {"queued": 2, "running": 1, "cancelling": 1}
    }
    assert 7_000_000 <= queue["p"]["oldest"] < 120_000_000


# -- small things ------------------------------------------------------------------------------------------------------
async def test_counters_add_up_over_shards(store: Store) -> None:
    """Counts of several replicas are kept apart and read as one exact sum."""
    for shard in ("a", "b"):
        counts = {("trigger", "t", "fired"): 2, ("trigger", "t", "filtered"): 5, ("sensor", "s", "stored"): 1}
        await do(store, lambda tx, shard=shard, counts=counts: tx.add_counts(shard, counts))  # type: ignore[misc]
    await do(store, lambda tx: tx.add_counts("a", {("trigger", "t", "fired"): 1}))

    assert await store.read(lambda reader: reader.counts("trigger")) == {("t", "fired"): 5, ("t", "filtered"): 10}


async def test_timers_are_taken_once_and_in_order(store: Store) -> None:
    """Due timers are handed out once, oldest first; a timer that is set again moves; a dropped one is gone."""

    def arm(tx: Any) -> None:
        now = tx.now()
        timers = [Timer(now - 1, "k", "b", "two"), Timer(now - 2, "k", "a", "one"), Timer(now + 10**9, "k", "later")]
        tx.set_timers([*timers, Timer(now - 5, "k", "moved"), Timer(now - 5, "k", "dropped")])
        tx.set_timers([Timer(now + 10**9, "k", "moved", "x")])
        tx.drop_timers([("k", "dropped"), ("k", "none")])

    await do(store, arm)
    first = await do(store, lambda tx: tx.due_timers(1))
    second = await do(store, lambda tx: tx.due_timers(10))
    third = await do(store, lambda tx: tx.due_timers(10))

    assert [(timer.key, timer.payload) for timer in [*first, *second]] == [("a", "one"), ("b", "two")]
    assert list(third) == []


async def test_settings_and_definitions(store: Store) -> None:
    """Settings are read by prefix, replaced and erased; a definition, once kept, never changes."""

    def put(tx: Any) -> Any:
        for name, value in (("paused/a", "hold"), ("paused/b", "drop"), ("paused0", "x"), ("paused/a", "drop")):
            tx.put_setting(name, value)
        tx.put_setting("paused/b", None)
        tx.put_definitions({"h": "one"})
        tx.put_definitions({"h": "two", "i": "three"})
        return tx.get_settings("paused/"), tx.get_definition("h"), tx.get_definition("none")

    inside = await do(store, put)
    outside = await store.read(
        lambda reader: (reader.settings("paused/"), reader.definition("h"), reader.definition("z"))
    )

    assert inside == outside == ({"paused/a": "drop"}, "one", None)
