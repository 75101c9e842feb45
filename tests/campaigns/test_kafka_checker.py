import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns._kafka_checker import History, Ledger, Logged, check, place_of, told_ahead
from tests.campaigns._kafka_rounds import Plan, run
from tests.campaigns._kafka_sabotage import SABOTAGES
from tests.campaigns.kafka import summary


def sound() -> tuple[History, Ledger]:
    """Two partitions: three records in one, of which two match, and one that matches in the other."""
    log = [Logged(0, 0, "r-0", True), Logged(0, 1, "r-1", False), Logged(0, 2, "r-2", True), Logged(1, 0, "r-3", True)]
    history = History(
        acked={record.id: (record.partition, record.offset) for record in log},
        log=log,
        ends={0: 3, 1: 1},
        committed={0: 3, 1: 1},
    )
    ledger = Ledger(
        events=[("e0", "orders#0/0/0", "r-0"), ("e2", "orders#0/0/2", "r-2"), ("e3", "orders#0/1/0", "r-3")],
        runs=[("r-0", 1), ("r-2", 1), ("r-3", 1)],
        caused={"e0": 1, "e2": 1, "e3": 1},
        cursors={0: 3, 1: 1},
        counters={("sensor", "stored"): 3, ("sensor", "unmatched"): 1, ("candidates", ""): 4, ("matched", ""): 3},
    )
    return history, ledger


def kinds(history: History, ledger: Ledger) -> set[str]:
    return {violation.kind for violation in check(history, ledger)}


def test_a_sound_history_has_no_violation() -> None:
    """What is as it should be is not complained about."""
    assert check(*sound()) == []


Spoil = Callable[[Ledger], Ledger]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(lambda led: replace(led, events=led.events[1:]), {"lost"}, id="an event is missing"),
        pytest.param(
            lambda led: replace(
                led, events=[*led.events, ("e9", "orders#0/0/2", "r-2")], caused={**led.caused, "e9": 1}
            ),
            {"doubled"},
            id="two events of one record",
        ),
        pytest.param(
            lambda led: replace(
                led, events=[*led.events, ("e9", "orders#0/0/1", "r-1")], caused={**led.caused, "e9": 1}
            ),
            {"invented"},
            id="an event of a record that does not match",
        ),
        pytest.param(
            lambda led: replace(led, events=[("e0", "orders#1/0/0", "r-0"), *led.events[1:]]),
            {"invented", "lost"},
            id="an event of another incarnation",
        ),
        pytest.param(
            lambda led: replace(led, events=[("e0", "orders#0/0/0", "r-2"), *led.events[1:]]),
            {"invented"},
            id="an event with the content of another record",
        ),
        pytest.param(lambda led: replace(led, runs=led.runs[1:]), {"lost"}, id="a run is missing"),
        pytest.param(lambda led: replace(led, runs=[*led.runs, ("r-2", 1)]), {"doubled"}, id="two runs of one key"),
        pytest.param(lambda led: replace(led, runs=[("r-0", 2), *led.runs[1:]]), {"doubled"}, id="a second generation"),
        pytest.param(lambda led: replace(led, runs=[*led.runs, ("r-1", 1)]), {"invented"}, id="a run of no match"),
        pytest.param(lambda led: replace(led, caused={"e0": 1, "e2": 1}), {"lost"}, id="an event without a run"),
        pytest.param(
            lambda led: replace(led, caused={**led.caused, "e2": 2}), {"doubled"}, id="an event with two runs"
        ),
        pytest.param(
            lambda led: replace(led, counters={**led.counters, ("sensor", "unmatched"): 2}),
            {"miscounted"},
            id="a record is counted twice",
        ),
        pytest.param(
            lambda led: replace(led, counters={**led.counters, ("sensor", "duplicate"): 1}),
            {"miscounted"},
            id="a record is read twice",
        ),
        pytest.param(
            lambda led: replace(led, counters={**led.counters, ("candidates", ""): 3}),
            {"miscounted"},
            id="a judgement is not counted",
        ),
        pytest.param(
            lambda led: replace(led, cursors={0: 2, 1: 1}), {"ahead", "behind"}, id="an event beyond its position"
        ),
        pytest.param(lambda led: replace(led, cursors={0: 4, 1: 1}), {"behind"}, id="a position beyond the log"),
        pytest.param(lambda led: replace(led, fallen=[("orders/0", 3, 2)]), {"took-back"}, id="a position fell"),
        pytest.param(lambda led: replace(led, dead_letters=1), {"refused"}, id="a sound record is a dead letter"),
    ],
)
def test_what_is_wrong_in_the_store_is_named(spoil: Spoil, expected: set[str]) -> None:
    """Each way in which the store can differ from the log has its own name."""
    history, ledger = sound()

    assert kinds(history, spoil(ledger)) == expected


def test_what_the_brokers_lost_is_not_put_on_us() -> None:
    """An acknowledged record that is not in the log, or is there twice, is told apart from one that we lost."""
    history, ledger = sound()
    history.acked["r-9"] = (1, 1)

    assert kinds(history, ledger) == {"unkept"}

    history, ledger = sound()
    history.log.append(Logged(1, 1, "r-1", False))
    history.ends[1] = 2
    spoiled = replace(ledger, cursors={0: 3, 1: 2}, counters={**ledger.counters, ("sensor", "unmatched"): 2})

    assert kinds(history, replace(spoiled, counters={**spoiled.counters, ("candidates", ""): 5})) == {"unkept"}


def test_brokers_may_lag_and_never_lead() -> None:
    """The brokers' offset may be smaller than the durable position, or unknown, and never greater."""
    assert not list(told_ahead({0: 5}, {0: 5, 1: 2}))
    assert [violation.kind for violation in told_ahead({0: 6}, {0: 5})] == ["ahead"]
    assert [violation.kind for violation in told_ahead({0: 1}, {})] == ["ahead"]


def test_a_trouble_that_never_came_proves_nothing() -> None:
    """A campaign that did not do what it was to do has not passed."""
    history, ledger = sound()
    history.wanted = frozenset({"member killed", "store away"})
    history.troubles["member killed"] = 1

    assert kinds(history, ledger) == {"unproven"}


def test_many_violations_of_a_kind_are_told_as_a_number() -> None:
    """Of a flood the first few are told, and how many more there are."""
    history, ledger = sound()
    told = check(history, replace(ledger, runs=[*ledger.runs, *((f"r-{n}", 1) for n in range(10, 40))]))

    assert len(told) == 6
    assert told[-1].what == "… and 25 more"


@pytest.mark.parametrize("id_", ["orders#0/1", "other#0/1/2", "orders#2/1/2", "orders/1/2"])
def test_ids_of_other_forms_are_of_no_place(id_: str) -> None:
    """Only ids of the topic's first incarnation name a place in the log."""
    assert place_of(id_) is None
    assert place_of("orders#0/1/2") == (1, 2)


@pytest.mark.campaign
@pytest.mark.apache_kafka
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_an_unbroken_service_passes(tmp_path: Path) -> None:
    """Ten thousand records, a member killed and a member paused: exactly one event and one run each."""
    plan = Plan(10_000, 6, brokers=1, rate=600, troubles=("members 1 to 3", "member killed", "member paused"))
    outcome = run(plan, 5, tmp_path / "kafka")

    assert outcome.violations == []
    assert len(outcome.history.acked) >= 10_000
    assert summary(outcome)["takeovers_of_partitions"] > 6


@pytest.mark.campaign
@pytest.mark.apache_kafka
@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("sabotage", "troubles", "expected"),
    [
        pytest.param(
            "brokers-told-first",
            ("members 1 to 3", "member killed"),
            {"ahead"},
            id="the brokers are told before the commit",
        ),
        pytest.param(
            "fence-dropped", ("members 1 to 3", "member paused"), {"miscounted", "took-back"}, id="the fence is dropped"
        ),
        pytest.param(
            "brokers-believed",
            ("members 1 to 3", "member killed"),
            {"miscounted"},
            id="the seek to our position is skipped",
        ),
        pytest.param(
            "position-before-events", ("member killed",) * 6, {"lost"}, id="positions are committed before events"
        ),
        pytest.param(
            "fetch-dropped", ("members 1 to 3",), {"lost", "miscounted"}, id="what was fetched is passed over"
        ),
    ],
)
def test_a_broken_sensor_is_caught(
    sabotage: str, troubles: tuple[str, ...], expected: set[str], tmp_path: Path
) -> None:
    """Each order of steps that the design forbids is seen within a few troubles, as what it is."""
    assert sabotage in SABOTAGES
    launcher = (sys.executable, "-m", "tests.campaigns._kafka_sabotage", sabotage)
    plan = Plan(8_000, 6, brokers=1, rate=400, troubles=troubles, launcher=launcher)
    outcome = run(plan, 5, tmp_path / "kafka")

    found = {violation.kind for violation in outcome.violations}
    assert outcome.history.acked
    assert "exit" not in found
    assert expected <= found
