"""The checker of the crash campaign: fed with fabricated histories, and with a service that was broken on purpose."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns._checker import Violation, allowed_repeats, check, excused
from tests.campaigns._history import Ack, Drop, History, Hit, Life
from tests.campaigns._ledger import Change, DecisionRow, EventRow, Ledger, RunRow, TaskRow
from tests.campaigns._sabotage import SABOTAGES
from tests.campaigns._syncs import StraceMissing, count_syncs
from tests.campaigns.crash import campaign, main

KILLED = Life(1, "main", "random", started=0.0, ended=10.0, exit=-9)
STOPPED = Life(2, "main", "term", started=10.0, ended=20.0, exit=0)


def sound() -> tuple[History, Ledger]:
    """Return a small history in which nothing is wrong: a webhook, a file, and one call for each."""
    history = History(
        acks=[Ack("w1", "evt_1", 1, 5.0), Ack("w1", "evt_1", 2, 12.0, duplicate=True)],
        drops=[Drop("f0.csv", 11, 4.0)],
        hits=[Hit("call", "k1", "tg-1", 1, 6.0), Hit("file", "f0.csv/11", "tg-2", 1, 7.0)],
        lives={1: KILLED, 2: STOPPED},
        marks=["run_1/hold/1"],
        wanted={("call", "k1"): ["w1"], ("file", "f0.csv/11"): ["f0.csv"]},
        syncs=(50, 51),
        calm=19.0,
    )
    ledger = Ledger(
        events=[
            EventRow("evt_1", "hooks", "w1", "webhook.received", None, "stored"),
            EventRow("evt_2", "drops", "f0.csv@11+99#0", "object.created", "f0.csv", "stored"),
            EventRow("evt_3", "tidegate", "run_1/succeeded", "tidegate.run.succeeded", "call", "stored", "run_1"),
            EventRow("evt_4", "tidegate", "run_2/succeeded", "tidegate.run.succeeded", "file", "stored", "run_2"),
        ],
        ids={("hooks", "w1"): "evt_1", ("drops", "f0.csv@11+99#0"): "evt_2"},
        seen={("drops", "f0.csv"): "11+99"},
        decisions=[
            DecisionRow("dec_1", "call", "fired", "trg_1", "run_1", ("evt_1",)),
            DecisionRow("dec_2", "file", "fired", "trg_2", "run_2", ("evt_2",)),
        ],
        trigger_events=frozenset({"trg_1", "trg_2"}),
        runs=[
            RunRow("run_1", "call", "succeeded", "k1", 1, "trg_1", 8_000_000),
            RunRow("run_2", "file", "succeeded", "trg_2", 1, "trg_2", 8_000_000),
        ],
        tasks=[
            TaskRow("tsk_1", "run_1", "call", "succeeded", 1, "tg-1", 8_000_000),
            TaskRow("tsk_2", "run_2", "call", "succeeded", 1, "tg-2", 8_000_000),
        ],
        counters={
            ("sensor", "hooks", "stored"): 1,
            ("sensor", "drops", "stored"): 1,
            ("sensor", "tidegate", "stored"): 2,
            ("trigger", "call", "fired"): 1,
            ("trigger", "file", "fired"): 1,
        },
        changes=[Change("task", "tsk_1", "running", "succeeded", 1), Change("run", "run_1", "running", "succeeded", 1)],
    )
    return history, ledger


def kinds(history: History, ledger: Ledger) -> set[str]:
    """Return the kinds of all violations."""
    return {violation.kind for violation in check(history, ledger)}


def without(ledger: Ledger, uid: str) -> Ledger:
    """Return the ledger without one event's row, its counter kept in step."""
    gone = next(event for event in ledger.events if event.uid == uid)
    counters = {
        **ledger.counters,
        ("sensor", gone.sensor, "stored"): ledger.counters["sensor", gone.sensor, "stored"] - 1,
    }
    return replace(ledger, events=[event for event in ledger.events if event.uid != uid], counters=counters)


def test_a_sound_history_has_no_violation() -> None:
    """What nobody broke is not accused."""
    assert check(*sound()) == []


def test_an_acknowledged_event_without_its_row_is_lost() -> None:
    """A 202 whose uid is in no row is a lost event, whatever else is there under the sender's id."""
    history, ledger = sound()
    history.acks.append(Ack("w2", "evt_9", 1, 5.5))

    assert check(history, ledger) == [
        Violation("lost", "event w2 was acknowledged as evt_9 by life 1 and is not in the store")
    ]


def test_an_acknowledgement_that_names_another_event_is_a_loss() -> None:
    """The uid of a 202 must belong to the event that was sent."""
    history, ledger = sound()
    history.acks.append(Ack("w2", "evt_1", 1, 5.5))

    assert kinds(history, ledger) == {"lost"}


def test_a_dedup_row_without_its_event_is_torn() -> None:
    """An id that is remembered while its event is not there would swallow the sender's retry."""
    history, ledger = sound()
    ledger = replace(ledger, ids={**ledger.ids, ("hooks", "w7"): "evt_7"})

    assert kinds(history, ledger) == {"torn"}


def test_a_decision_without_its_run_is_torn() -> None:
    """A decision that fired names a run that is there."""
    history, ledger = sound()
    ledger = replace(ledger, decisions=[*ledger.decisions, DecisionRow("dec_3", "chain", "fired", "trg_3", "run_3")])

    assert "torn" in kinds(history, ledger)


def test_a_memory_without_its_event_is_torn_and_its_file_lost() -> None:
    """A file whose version is remembered and has no event will never be one: both are told."""
    history, ledger = sound()

    assert kinds(history, without(replace(ledger, ids={("hooks", "w1"): "evt_1"}), "evt_2")) == {"torn", "lost"}


def test_a_counter_that_disagrees_is_torn() -> None:
    """Counters are written beside the rows that they count."""
    history, ledger = sound()
    ledger = replace(ledger, counters={**ledger.counters, ("trigger", "call", "fired"): 2})

    assert kinds(history, ledger) == {"torn"}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(EventRow("evt_8", "hooks", "w1", "webhook.received", None, "stored"), id="webhook"),
        pytest.param(EventRow("evt_8", "drops", "f0.csv@11+100#0", "object.created", "f0.csv", "stored"), id="file"),
    ],
)
def test_an_event_that_is_there_twice_is_doubled(row: EventRow) -> None:
    """One row per (sensor, id), and one per version of a file."""
    history, ledger = sound()
    ledger = replace(ledger, events=[*ledger.events, row])

    assert "doubled" in kinds(history, ledger)


def test_a_second_run_of_a_key_is_doubled() -> None:
    """A key starts one run."""
    history, ledger = sound()
    again = RunRow("run_3", "call", "succeeded", "k1", 2, "trg_1", 8_000_000)
    ledger = replace(ledger, runs=[*ledger.runs, again])

    assert "doubled" in kinds(history, ledger)


def test_an_acknowledged_event_that_started_nothing_is_lost() -> None:
    """An event that a trigger waits for has its run."""
    history, ledger = sound()
    ledger = replace(
        ledger,
        runs=ledger.runs[1:],
        tasks=ledger.tasks[1:],
        decisions=ledger.decisions[1:],
        events=[event for event in ledger.events if event.uid != "evt_3"],
        counters={**ledger.counters, ("sensor", "tidegate", "stored"): 1},
    )

    assert Violation("lost", "acknowledged events ['w1'] should have started call with key k1: no run") in check(
        history, ledger
    )


def test_a_request_that_never_came_is_named() -> None:
    """What was asked for reaches the sink."""
    history, ledger = sound()
    del history.hits[0]

    assert kinds(history, ledger) == {"unrequested"}


def test_a_repeat_after_a_kill_is_allowed() -> None:
    """The same Idempotency-Key may come again from the next process when the first was killed before it recorded."""
    history, ledger = sound()
    history.hits.append(Hit("call", "k1", "tg-1", 2, 11.0))
    ledger = replace(ledger, tasks=[replace(ledger.tasks[0], finished_at=12_000_000), ledger.tasks[1]])

    assert check(history, ledger) == []
    assert allowed_repeats(history) == 1


@pytest.mark.parametrize(
    ("again", "finished_at"),
    [
        pytest.param(Hit("call", "k1", "tg-1", 1, 6.5), 8_000_000, id="by the same process"),
        pytest.param(Hit("call", "k1", "tg-9", 2, 11.0), 12_000_000, id="under another key"),
        pytest.param(Hit("call", "k1", "tg-1", 2, 11.0), 8_000_000, id="after it was recorded"),
    ],
)
def test_a_repeat_without_an_excuse_is_named(again: Hit, finished_at: int) -> None:
    """A request may not come again from the same process, under another key, or after its result was recorded."""
    history, ledger = sound()
    history.hits.append(again)
    ledger = replace(ledger, tasks=[replace(ledger.tasks[0], finished_at=finished_at), ledger.tasks[1]])

    assert "repeated" in kinds(history, ledger)


def test_only_a_kill_or_a_pause_excuses_a_repeat() -> None:
    """A process that ended softly, or was not paused in between, has no excuse; one paused past its lease has."""
    first, second = Hit("call", "k", "tg", 1, 5.0), Hit("call", "k", "tg", 3, 12.0)
    soft = replace_life(KILLED, exit=0)
    paused = replace_life(soft, ended=30.0, pauses=[(6.0, 11.0)])

    assert excused(first, second, History(lives={1: KILLED}))
    assert not excused(first, second, History(lives={1: soft}))
    assert excused(replace(first, at=5.9), second, History(lives={1: paused}))
    assert not excused(replace(first, at=11.5), second, History(lives={1: paused}))
    assert excused(first, replace(second, life=1), History(lives={1: paused}))
    assert not excused(first, replace(second, life=1), History(lives={1: KILLED}))
    assert not excused(replace(first, life=3), replace(second, life=1), History(lives={1: paused, 3: soft}))


def replace_life(life: Life, **changes: object) -> Life:
    """Return a life with other facts."""
    return Life(**{**{name: getattr(life, name) for name in Life.__slots__}, **changes})


def test_an_attempt_that_was_started_twice_is_named() -> None:
    """Work that dies with the service gets a new attempt, never the same one again."""
    history, ledger = sound()
    history.marks.append("run_1/hold/1")

    assert kinds(history, ledger) == {"started-twice"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Change("task", "tsk_1", "succeeded", "succeeded", 1), id="recorded again"),
        pytest.param(Change("run", "run_1", "succeeded", "running", 2), id="taken back"),
    ],
)
def test_a_result_that_is_recorded_twice_is_named(change: Change) -> None:
    """A stale writer changes nothing: a final state is written once and stays."""
    history, ledger = sound()
    ledger = replace(ledger, changes=[*ledger.changes, change])

    assert kinds(history, ledger) == {"recorded-twice"}


def test_what_does_not_end_is_stuck() -> None:
    """Open runs, open decisions, senders without an answer and a service that never rests are told."""
    history, ledger = sound()
    history.unanswered, history.calm = ["w5"], None
    ledger = replace(
        ledger,
        runs=[replace(ledger.runs[0], state="running"), ledger.runs[1]],
        decisions=[*ledger.decisions, DecisionRow("dec_9", "call", "waiting")],
    )
    found = [violation.what for violation in check(history, ledger) if violation.kind == "stuck"]

    assert len(found) == 4


def test_a_run_that_failed_is_named_with_its_reason() -> None:
    """No task of the campaign fails by itself: a crash must not fail it either."""
    history, ledger = sound()
    ledger = replace(
        ledger,
        runs=[replace(ledger.runs[0], state="failed"), ledger.runs[1]],
        tasks=[replace(ledger.tasks[0], error="lost too often"), ledger.tasks[1]],
    )

    assert any(v.kind == "failed" and "lost too often" in v.what for v in check(history, ledger))


def test_a_child_that_outlives_its_service_is_an_orphan() -> None:
    """Children die with the service."""
    history, ledger = sound()
    history.lives[1] = replace_life(KILLED, orphans=[4711])

    assert kinds(history, ledger) == {"orphan"}


def test_a_process_that_dies_by_itself_is_named() -> None:
    """Only our own kill ends a process, and a soft stop ends it with 0."""
    history, ledger = sound()
    history.lives[2] = replace_life(STOPPED, exit=1)

    assert kinds(history, ledger) == {"exit"}


def test_fewer_syncs_than_answers_are_named() -> None:
    """Answers that cost no sync were not durable."""
    history, ledger = sound()
    history.syncs = (50, 3)

    assert kinds(history, ledger) == {"unsynced"}


def test_a_broken_file_is_named() -> None:
    """The database's own check counts."""
    history, ledger = sound()

    assert kinds(history, replace(ledger, integrity="row 7 missing from index")) == {"corrupt"}


@pytest.mark.integration
@pytest.mark.timeout(150)
async def test_every_acknowledged_webhook_is_synced(tmp_path: Path) -> None:
    """SQLite syncs its log for every answer that cannot share a commit with another one."""
    try:
        acknowledged, syncs = await count_syncs(tmp_path / "syncs", 20)
    except StraceMissing as error:
        pytest.skip(str(error))

    assert acknowledged == 20
    assert syncs >= 20


@pytest.mark.campaign
@pytest.mark.timeout(150)
async def test_a_store_that_does_not_sync_is_caught(tmp_path: Path) -> None:
    """`synchronous=OFF` is invisible to kill -9, and the count of syncs tells it."""
    launcher = (sys.executable, "-m", "tests.campaigns._sabotage", "synchronous-off")
    history, ledger = sound()
    history.syncs = await count_syncs(tmp_path / "syncs", 20, launcher)

    assert history.syncs[0] == 20
    assert kinds(history, ledger) == {"unsynced"}


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("sabotage", "expected"),
    [
        pytest.param("acknowledge-before-commit", {"lost"}, id="acknowledge before commit"),
        pytest.param("dedup-row-apart", {"lost", "torn"}, id="dedup row apart from the event"),
        pytest.param("run-after-commit", {"torn"}, id="run after the commit"),
        pytest.param("cursor-before-commit", {"lost", "torn"}, id="cursor before the commit"),
    ],
)
def test_a_broken_service_is_caught(sabotage: str, expected: set[str], tmp_path: Path) -> None:
    """Each order of steps that the design forbids is seen within a few rounds, as what it is."""
    assert sabotage in SABOTAGES
    launcher = (sys.executable, "-m", "tests.campaigns._sabotage", sabotage)
    outcome = campaign("sqlite", 24, 5, tmp_path / "crash", launcher)

    found = {violation.kind for violation in outcome.violations}
    assert outcome.history.acks
    assert "exit" not in found
    assert expected <= found
    assert (tmp_path / "crash" / "violations.txt").stat().st_size > 0


@pytest.mark.campaign
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_stale_writes_are_caught(tmp_path: Path) -> None:
    """A process that was paused past its lease and writes all the same is seen by what it wrote."""
    launcher = (sys.executable, "-m", "tests.campaigns._sabotage", "stale-writes-applied")
    outcome = campaign("postgresql", 8, 5, tmp_path / "crash", launcher, points=())

    found = {violation.kind for violation in outcome.violations}
    assert "exit" not in found
    assert "recorded-twice" in found


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_an_unbroken_service_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """The same rounds without sabotage end with exit code 0."""
    assert main(["--rounds", "12", "--store", "sqlite", "--seed", "5"]) == 0
    assert "violations            none" in capsys.readouterr().out
