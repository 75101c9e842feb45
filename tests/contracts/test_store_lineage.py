"""What every store promises about the way from cause to outcome, and about forgetting."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipelines.run import CheckResult, DatasetWrite, LogLine
from sensors.batch import DeadLetter
from tests.support.stores import T0, add_runs, claim, do, event, fired, run, task, trigger_event
from tidegate.store.reader import Row
from tidegate.store.records import NewId, RunUpdate, StoredEvent
from tidegate.store.tx import ItemRefused, Store
from triggers.decision import Outcome
from triggers.ports import RunKeyName, RunKeyState

FOREVER = T0 * 2
KEY = RunKeyName("trigger/t", "p", "run_1")


async def tell_a_story(store: Store) -> None:
    """Two events cause a run that writes a dataset and an own event, which causes a run that reads the dataset."""

    def write(name: str, mode: str) -> DatasetWrite:
        return DatasetWrite(namespace="db://w", name=name, task="a", at=T0, mode=mode)

    def tell(tx: Any) -> None:
        own = event("evt_own", sensor="tidegate", cause_run="run_1", depth=1)
        tx.insert_events([StoredEvent(item) for item in (event("evt_1"), event("evt_2"), event("evt_lone"), own)])
        tx.new_event_ids([NewId("hook", "evt_1", "evt_1", T0)])
        tx.insert_decisions(
            [
                fired("dec_1", ["evt_1", "evt_2"], trigger_event="trg_1", run="run_1"),
                fired("dec_2", ["evt_own"], trigger_event="trg_2", run="run_2"),
                fired("dec_3", ["evt_lone"], outcome=Outcome.FILTERED),
                fired("dec_4", ["evt_lone"], outcome=Outcome.WAITING),
            ]
        )
        causes = (("trg_1", ["evt_1", "evt_2"]), ("trg_2", ["evt_own"]))
        tx.insert_trigger_events([trigger_event(uid, events) for uid, events in causes])
        tx.put_run_keys([RunKeyState(KEY, 1, "run_1", "queued")])
        tx.insert_runs(
            [
                run("run_1", trigger_event="trg_1", events=("evt_1", "evt_2")),
                run("run_2", trigger_event="trg_2", events=("evt_own",)),
            ],
            [task("tsk_1", "run_1"), task("tsk_2", "run_2")],
        )
        tx.insert_datasets("run_1", [write("daily", "write")], [])
        tx.insert_datasets("run_2", [write("daily", "read"), write("report", "append")], [])
        tx.insert_logs([LogLine("run_1", "a", 1, T0, "log", "x"), LogLine("run_2", "a", 1, FOREVER, "log", "y")])

    await do(store, tell)


async def finish(store: Store, *runs: str) -> None:
    """End runs."""
    fences = await do(store, lambda tx: tx.fences(runs))
    updates = [RunUpdate(run=uid, fence=fence, state="succeeded", finished_at=T0 + 1) for uid, fence in fences.items()]
    await do(store, lambda tx: tx.update_runs(updates))


def names(graph: Row) -> set[str]:
    """Return the nodes as `kind:uid`."""
    return {f"{node['kind']}:{node['uid']}" for node in graph["nodes"]}


def arrows(graph: Row) -> set[str]:
    """Return the edges as `from -kind-> to`."""
    return {f"{edge['from']} -{edge['kind']}-> {edge['to']}" for edge in graph["edges"]}


FIRST_HALF = {
    "evt_1 -judged-> dec_1",
    "evt_2 -judged-> dec_1",
    "dec_1 -fired-> trg_1",
    "trg_1 -started-> run_1",
    "evt_1 -caused-> run_1",
    "evt_2 -caused-> run_1",
}
SECOND_HALF = {
    "run_1 -emitted-> evt_own",
    "evt_own -judged-> dec_2",
    "evt_own -caused-> run_2",
    "dec_2 -fired-> trg_2",
    "trg_2 -started-> run_2",
    "run_1 -wrote-> db://w/daily",
    "db://w/daily -read-> run_2",
    "run_2 -wrote-> db://w/report",
}
TASKS = {"run_1 -ran-> tsk_1", "run_2 -ran-> tsk_2"}


async def test_down_from_an_event(store: Store) -> None:
    """From one event every outcome is reached, over own events and datasets, and no other cause."""
    await tell_a_story(store)
    graph = await store.read(lambda reader: reader.lineage(event="evt_1", up=False))

    assert arrows(graph) == {arrow for arrow in FIRST_HALF if not arrow.startswith("evt_2")} | SECOND_HALF | TASKS
    assert "event:evt_2" not in names(graph)
    assert not graph["truncated"]


async def test_up_from_a_dataset(store: Store) -> None:
    """From a dataset, by its plain name or its full one, every cause is reached."""
    await tell_a_story(store)
    by_name = await store.read(lambda reader: reader.lineage(dataset="report", down=False))
    by_uid = await store.read(lambda reader: reader.lineage(dataset="db://w/report", down=False))

    assert arrows(by_name) == arrows(by_uid) == FIRST_HALF | SECOND_HALF


async def test_around_a_run(store: Store) -> None:
    """Around a run both directions are shown, and each node says what it is."""
    await tell_a_story(store)
    graph = await store.read(lambda reader: reader.lineage(run="run_1"))
    nodes = {node["uid"]: node for node in graph["nodes"]}

    assert arrows(graph) == FIRST_HALF | SECOND_HALF | TASKS
    assert nodes["run_1"]["pipeline"] == "p"
    assert nodes["dec_1"]["outcome"] == "fired"
    assert nodes["evt_1"]["sensor"] == "hook"
    assert nodes["tsk_1"]["state"] == "pending"
    assert nodes["db://w/daily"]["name"] == "daily"


async def test_a_run_tells_what_its_checks_found(store: Store) -> None:
    """The node of a run has how many checks were made and how many failed; one without checks has neither."""
    await tell_a_story(store)
    checks = [
        CheckResult(check=f"c{n}", task="a", dataset="daily", passed=n > 0, severity="warn", message="m", at=T0)
        for n in range(3)
    ]
    await do(store, lambda tx: tx.insert_datasets("run_1", [], checks))
    graph = await store.read(lambda reader: reader.lineage(run="run_1"))
    runs = [node for node in graph["nodes"] if node["kind"] == "run"]
    told = {node["uid"]: (node.get("checks"), node.get("checks_failed")) for node in runs}
    assert told == {"run_1": (3, 1), "run_2": (None, None)}


async def test_lineage_is_bounded(store: Store) -> None:
    """A graph never holds more nodes than asked for, and says that it was cut."""
    await add_runs(store, *[run(f"run_{n:03}", events=("evt_1",)) for n in range(50)])
    graph = await store.read(lambda reader: reader.lineage(event="evt_1", limit=20))

    assert len(graph["nodes"]) == 20
    assert graph["truncated"]


async def test_nothing_is_known_of_an_unknown_event(store: Store) -> None:
    """An event that never was is a stub without label."""
    graph = await store.read(lambda reader: reader.lineage(event="evt_none"))

    assert graph["nodes"] == [{"kind": "stub", "uid": "evt_none", "was": "event", "label": "", "at": None}]


# -- forgetting --------------------------------------------------------------------------------------------------------
async def forget(store: Store, *what: str, limit: int = 100, before: int = FOREVER) -> Sequence[int]:
    """Prune kinds of rows, each once."""
    return await do(store, lambda tx: [tx.prune(kind, before, limit) for kind in what])


async def test_what_a_kept_run_refers_to_stays(store: Store) -> None:
    """While a run is kept its events are; an event of an open decision is; what nobody names goes."""
    await tell_a_story(store)
    await do(store, lambda tx: tx.insert_events([StoredEvent(event("evt_free", data=b"x" * 5_000))]))

    assert await forget(store, "runs", "decisions", "events") == [0, 3, 1]
    rows, _ = await store.read(lambda reader: reader.events(limit=10))
    assert {row["uid"] for row in rows} == {"evt_1", "evt_2", "evt_own", "evt_lone"}
    left, _ = await store.read(lambda reader: reader.decisions(limit=10))
    assert [row["uid"] for row in left] == ["dec_4"]


async def test_a_pruned_story_leaves_stubs(store: Store) -> None:
    """After runs, decisions and events went, the way from event to outcome is still told, by stubs."""
    await tell_a_story(store)
    await finish(store, "run_1", "run_2")
    gone = await forget(store, "runs", "decisions", "events", "event_ids")
    graph = await store.read(lambda reader: reader.lineage(event="evt_1", up=False))
    nodes = {node["uid"]: node for node in graph["nodes"]}

    assert gone == [2, 3, 3, 1]
    assert arrows(graph) == {
        "evt_1 -caused-> run_1",
        "run_1 -wrote-> db://w/daily",
        "db://w/daily -read-> run_2",
        "run_2 -wrote-> db://w/report",
    }
    assert nodes["run_1"] == {"kind": "stub", "uid": "run_1", "was": "run", "label": "p succeeded", "at": T0}
    assert nodes["evt_1"] == {"kind": "stub", "uid": "evt_1", "was": "event", "label": "hook/evt_1", "at": T0}
    assert nodes["db://w/daily"]["kind"] == "dataset"
    assert await store.read(lambda reader: reader.run("run_1")) is None
    assert list(await store.read(lambda reader: reader.tasks("run_1"))) == []
    assert list((await store.read(lambda reader: reader.logs("run_1")))[0]) == []


async def test_a_run_key_outlives_its_run(store: Store) -> None:
    """After its run was pruned a key still knows its generation and how the run ended."""
    await tell_a_story(store)
    await finish(store, "run_1")
    await forget(store, "runs")
    states = await do(store, lambda tx: tx.lock_run_keys([KEY]))

    assert states == {KEY: RunKeyState(KEY, 1, "run_1", "succeeded")}


async def test_a_run_that_was_resumed_stays_with_the_kept_one(store: Store) -> None:
    """A run whose successes a kept run reuses is kept; once that one went it goes too."""
    await add_runs(store, run("run_old"), run("run_new", resumed_from="run_old"))
    await finish(store, "run_old")

    assert await forget(store, "runs") == [0]
    await finish(store, "run_new")
    assert await forget(store, "runs") == [1]
    assert await forget(store, "runs") == [1]


async def test_age_and_state_protect(store: Store) -> None:
    """Young rows and unfinished runs stay, whatever else is pruned."""
    await add_runs(store, run("run_waiting"), run("run_young", created_at=T0 + 5))
    await claim(store, 1)
    await finish(store, "run_young")
    await do(store, lambda tx: tx.insert_events([StoredEvent(event("evt_young", received_at=T0))]))

    assert await forget(store, "runs", "events", before=T0) == [0, 0]
    assert await forget(store, "runs") == [1]
    assert await store.read(lambda reader: reader.run("run_waiting")) is not None


async def test_a_dead_event_stays_with_its_dead_letter(store: Store) -> None:
    """An event that could not be judged is kept until its dead letter is dropped."""
    letter = DeadLetter("unjudgeable", "", "", event_uid="evt_dead")

    def put(tx: Any) -> None:
        tx.insert_events([StoredEvent(event("evt_dead"), None, "dead")])
        tx.insert_dead_letters([("ddl_1", "hook", T0, letter)])

    await do(store, put)
    assert await forget(store, "events") == [0]
    await do(store, lambda tx: tx.drop_dead_letters(["ddl_1"]))
    assert await forget(store, "events") == [1]


async def test_each_call_is_bounded_and_all_goes_in_the_end(store: Store) -> None:
    """No call deletes more than its limit; rows that must stay never keep the others from going."""
    kept = [event(f"evt_0{n:03}") for n in range(100)]
    free = [event(f"evt_1{n:03}") for n in range(30)]
    await do(store, lambda tx: tx.insert_events([StoredEvent(item) for item in (*kept, *free)]))
    await add_runs(store, run("run_1", events=[item.uid for item in kept]))
    gone = [(await forget(store, "events", limit=4))[0] for _ in range(40)]

    assert max(gone) <= 4
    assert sum(gone) == 30
    rows, _ = await store.read(lambda reader: reader.events(limit=500))
    assert {row["uid"] for row in rows} == {item.uid for item in kept}


async def test_expired_ids_and_old_logs_go(store: Store) -> None:
    """Ids without expiry are kept for ever; logs go by their own age."""
    ids = [NewId("s", "old", "u1", T0), NewId("s", "young", "u2", FOREVER), NewId("s", "ever", "u3")]
    await do(store, lambda tx: tx.new_event_ids(ids))
    lines = [LogLine("r", "t", 1, at, "log", str(at)) for at in (T0, T0 + 1, FOREVER)]
    await do(store, lambda tx: tx.insert_logs(lines))

    assert await forget(store, "event_ids", "logs", before=T0 + 2) == [1, 2]
    known = await do(store, lambda tx: tx.new_event_ids([NewId("s", name, "new") for name in ("old", "young", "ever")]))
    assert known == {("s", "old"): "new", ("s", "young"): "u2", ("s", "ever"): "u3"}


async def test_only_known_kinds_can_be_pruned(store: Store) -> None:
    """Pruning something else is an error that names the choices."""
    with pytest.raises(ItemRefused, match="event_ids, events, logs, replays, rounds, runs"):
        await forget(store, "run_keys")
