"""Joins in the one transaction: parts come in any transaction, fire once, and say what they wait for meanwhile."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support.join_works import HOUR, Bells, came, join_of, part, waiting_for
from tests.support.stores import do
from tests.support.works import T0, make_config, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.rules import compile_rules
from triggers.pattern import Join, Late, Opens, Part, Source, Take
from triggers.trigger import Paused

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
EVENTS = {"key": "key", "params": {"subjects": "${{ events.map(e, e.type) }}", "first": "${{ parts.a.subject }}"}}


def config(pattern: Any, *more: Any, hash: str = "c1", **fields: Any) -> Any:
    return make_config([waiting_for(pattern, **fields), *more], hash=hash)


@EVERYWHERE
async def test_parts_that_come_one_by_one_start_one_run(works: OpenWorks) -> None:
    """The run starts when the last part comes, with all events as its causes and their contents in its parameters."""
    house = await works(config(join_of("a", "b", "c"), run=EVENTS))
    for n, kind in enumerate(("b", "a", "b", "c")):
        await house.put(came(kind, at=T0 + n))
    runs = await house.all_runs()
    events = {row["type"]: row["uid"] for row in reversed(await house.events())}
    run = await house.store.read(lambda reader: reader.run(runs[0]["uid"]))

    assert [row["key"] for row in runs] == ["k"]
    assert run is not None
    assert sorted(run.events) == sorted(events.values())
    assert sorted(run.params["subjects"]) == ["a", "b", "c"]
    assert run.params["first"] == "k"
    assert sorted(await house.outcomes()) == ["duplicate", "fired"]
    assert await do(house.store, lambda tx: tx.get_spans(list(run.events))) != {}


@EVERYWHERE
async def test_a_key_that_waits_says_what_for(works: OpenWorks) -> None:
    """One open decision per key names what is there, what is missing and until when; it grows with what comes."""
    house = await works(config(join_of("a", "b", "c")))
    await house.put(came("a", "k1"), came("a", "k2"))
    before = await house.decisions()
    await house.put(came("c", "k1"))
    after = {row["details"]["key"]: row for row in await house.decisions()}
    explained, _ = await house.store.read(lambda reader: reader.decisions(limit=9, event=after["k1"]["events"][1]))

    assert [row["outcome"] for row in before] == ["waiting", "waiting"]
    assert len(after) == 2
    assert after["k1"]["uid"] in {row["uid"] for row in before}
    assert after["k1"]["details"]["missing"] == ["b"]
    assert "2 of 3 parts are there (a, c); missing: b" in after["k1"]["reason"]
    assert "until 2027-01-15T09:00:00Z" in after["k1"]["reason"]
    assert len(after["k1"]["events"]) == 2
    assert [row["uid"] for row in explained] == [after["k1"]["uid"]]
    assert (await house.counts("trigger"))["j", "waiting"] == 3


@pytest.mark.parametrize("url", ["sqlite", "memory"], indirect=True)
async def test_five_of_six_is_a_visible_failure(works: OpenWorks) -> None:
    """An overdue key starts no run: a decision names what is missing, an own event tells it, and so may a run."""
    names = ("crm", "erp", "fx", "hr", "web", "pos")
    told = make_trigger("told", "alarm", sensor="tidegate", types=("tidegate.join.overdue",))
    overdue = [{"params": {"missing": "${{ missing }}", "key": "${{ key }}"}}]
    house = await works(config(join_of(*names), told, overdue=overdue))
    bells = Bells(house)
    for kind in names[:5]:
        await house.put(came(kind))
    early = await bells.ring(T0 + HOUR - 10)
    waits = await house.outcomes(trigger="j")
    rung = await bells.ring(T0 + HOUR + 1)
    runs = await house.all_runs()
    decisions = await house.decisions(trigger="j")
    event = (await house.events("tidegate"))[0]
    stored = await house.store.read(lambda reader: reader.event(event["uid"]))

    assert (early, waits, rung) == (0, ["waiting"], 1)
    assert [row["pipeline"] for row in runs] == ["late", "alarm"]
    assert runs[0]["params"] == {"missing": ["pos"], "key": "k"}
    assert sorted(row["outcome"] for row in decisions) == ["fired", "overdue"]
    late = next(row for row in decisions if row["outcome"] == "overdue")
    assert late["details"]["missing"] == ["pos"]
    assert "5 of 6 parts are there" in late["reason"]
    assert len(late["events"]) == 5
    assert (event["type"], event["subject"]) == ("tidegate.join.overdue", "j")
    assert stored is not None
    assert stored.data is not None
    assert b'"missing":["pos"]' in stored.data
    assert await bells.ring(T0 + 3 * HOUR) == 0


@pytest.mark.parametrize(
    ("late", "keys", "outcomes"),
    [
        (Late.IGNORE, [], ["late", "overdue"]),
        (Late.ALERT, ["alarm"], ["late", "overdue"]),
        (Late.REFIRE, ["p"], ["fired", "overdue"]),
    ],
)
@pytest.mark.parametrize("url", ["sqlite", "memory"], indirect=True)
async def test_a_late_part_meets_the_policy(works: OpenWorks, late: Late, keys: list[str], outcomes: list[str]) -> None:
    """The part that was missing comes after the deadline: only recorded, told as an own event, or it completes."""
    told = make_trigger("told", "alarm", sensor="tidegate", types=("tidegate.join.late",))
    house = await works(config(join_of("a", "b", late=late), told))
    bells = Bells(house)
    await house.put(came("a"))
    await bells.ring(T0 + HOUR + 1)
    await house.put(came("b", at=T0 + HOUR + 5))

    assert [run["pipeline"] for run in await house.all_runs()] == keys
    assert sorted(await house.outcomes(trigger="j")) == outcomes


async def test_a_part_that_refires_opens_a_new_generation(works: OpenWorks) -> None:
    """With `refire` a newer part after the run makes another run of the same key, whatever became of the first."""
    pattern = Join(parts=(part("a", "latest"), part("b")), within=HOUR, late=Late.REFIRE)
    house = await works(config(pattern))
    await house.put(came("a"), came("b"))
    await house.work()
    await house.put(came("a", at=T0 + 9))
    runs = await house.all_runs()

    assert [(run["key"], run["generation"]) for run in runs] == [("k", 1), ("k", 2)]
    assert sorted(await house.outcomes()) == ["duplicate", "fired", "fired"]


@EVERYWHERE
@pytest.mark.parametrize("point", ["join.met", "ingest.runs", "store.before_commit"])
async def test_a_transaction_that_dies_joins_nothing(works: OpenWorks, point: str) -> None:
    """What fails while a part comes leaves the key as it was; the part comes again, and fires once."""
    house = await works(config(join_of("a", "b")))
    await house.put(came("a", id="1"))
    house.fail.arm(point, 1 if point == "store.before_commit" else 2)
    last = came("b", id="2")
    try:
        await house.put(last)
    except Exception:  # whatever it says, nothing of it may be there
        assert await house.all_runs() == []
        await house.put(replace(last, uid=came("b").uid))
    await house.restart()
    await house.put(replace(last, uid=came("b").uid))

    assert len(await house.all_runs()) == 1
    assert await house.outcomes() == ["fired"]


async def test_a_join_that_hears_its_own_alarms_comes_to_an_end(works: OpenWorks) -> None:
    """A part that comes late because another one did is told a level deeper, until the chain is refused as a loop."""
    own = Part(
        name="own", source=Source(sensor="tidegate", types=("tidegate.join.late",)), by="event.data.key", take=Take.ALL
    )
    house = await works(config(Join(parts=(part("a"), own), within=HOUR, late=Late.ALERT, require="a")))
    await house.put(came("a"))
    await house.put(came("a", at=T0 + 1))
    depths = sorted(row["depth"] for row in await house.events("tidegate"))
    errors = await house.decisions(outcome="error")

    assert depths == list(range(1, 11))
    assert len(errors) == 1
    assert "a loop?" in errors[0]["reason"]


@EVERYWHERE
async def test_two_replicas_that_race_on_one_key_fire_once(works: OpenWorks, url: str) -> None:
    """Parts of one key that come to two replicas at the same moment make one run per key, whoever was faster."""
    if url == "memory:" or url.startswith("sqlite"):
        one = two = await works(config(join_of("a", "b")))
    else:
        one, two = await works(config(join_of("a", "b"))), await works(config(join_of("a", "b")), shard="two")
    keys = [f"k{n}" for n in range(40)]
    await asyncio.gather(
        *(one.put(came("a", key)) for key in keys), *(two.put(came("b", key)) for key in reversed(keys))
    )

    assert sorted(run["key"] for run in await one.all_runs()) == sorted(keys)
    assert await one.outcomes() == ["fired"] * 40


async def test_a_calendar_opens_a_key_for_which_nothing_came(works: OpenWorks) -> None:
    """A key is due, and overdue, although none of its parts ever arrived; missed ticks are made up for."""
    pattern = join_of("a", "b", within=None, until="10:00", opens=Opens(cron="0 9 * * *", key='day(now, "UTC")'))
    house = await works(config(pattern))  # the clock stands at 2027-01-15T08:00Z
    bells = Bells(house)
    await bells.arm()
    opened = await bells.ring(T0 + HOUR)
    waits = await house.decisions()
    await house.put(came("a", "2027-01-15", at=T0 + HOUR + 1), came("b", "2027-01-15", at=T0 + HOUR + 1))
    fired = await house.outcomes()
    await house.restart()
    await bells.arm()
    await bells.ring(T0 + 3 * 24 * HOUR)
    overdue = sorted(row["details"]["key"] for row in await house.decisions(outcome="overdue"))

    assert opened == 1
    assert [(row["outcome"], row["details"]["key"]) for row in waits] == [("waiting", "2027-01-15")]
    assert "missing: a, b" in waits[0]["reason"]
    assert fired == ["fired"]
    assert overdue == ["2027-01-16", "2027-01-17"]


async def test_a_calendar_whose_key_cannot_be_told_says_so(works: OpenWorks) -> None:
    """A tick that opens nothing is a visible error, and the next tick comes all the same."""
    opens = Opens(cron="0 * * * *", key='now < timestamp("2027-01-15T09:30:00Z") ? string(1 / 0) : "k"')
    house = await works(config(join_of("a", "b", within=None, until="23:00", opens=opens)))
    bells = Bells(house)
    await bells.arm()
    await bells.ring(T0 + HOUR)
    failed = await house.decisions()
    await bells.ring(T0 + 2 * HOUR)

    assert [(row["outcome"], row["clause"]["path"]) for row in failed] == [("error", "join.opens.key")]
    assert "divide by zero" in failed[0]["reason"]
    assert sorted(await house.outcomes()) == ["error", "waiting"]
    assert (await house.counts("trigger"))["j", "error"] == 1


async def test_a_changed_pattern_gives_up_what_waits_and_says_so(works: OpenWorks) -> None:
    """Reload keeps what a key has gathered while the pattern means the same; else the key ends in a visible error."""
    house = await works(config(join_of("a", "b", "c")))
    await house.put(came("a", "kept"), came("a", "changed"))
    same = config(join_of("a", "b", "c", late=Late.ALERT), hash="c2", version="v2")
    house.rules.swap(compile_rules(same, {}))
    await house.put(came("b", "kept"), came("c", "kept"))
    kept = await house.all_runs()
    house.rules.swap(compile_rules(config(join_of("a", "b"), hash="c3", version="v3"), {}))
    await house.put(came("b", "changed"))
    decisions = {row["outcome"]: row for row in await house.decisions() if row["details"].get("key") == "changed"}

    assert [run["key"] for run in kept] == ["kept"]
    assert sorted(decisions) == ["error", "waiting"]
    assert "pattern of the trigger changed" in decisions["error"]["reason"]
    assert len(decisions["error"]["events"]) == 1
    assert decisions["waiting"]["details"]["missing"] == ["a"]


async def test_a_key_of_a_changed_calendar_that_holds_nothing_ends_visibly(works: OpenWorks) -> None:
    """Also a key for which nothing came yet does not vanish without a word when the pattern changes."""
    opens = Opens(cron="0 9 * * *", key='day(now, "UTC")')
    house = await works(config(join_of("a", "b", within=None, until="10:00", opens=opens)))
    bells = Bells(house)
    await bells.arm()
    await bells.ring(T0 + HOUR)
    changed = config(join_of("a", "b", "c", within=None, until="10:00", opens=opens), hash="c2", version="v2")
    house.rules.swap(compile_rules(changed, {}))
    await bells.ring(T0 + 2 * HOUR)
    (decision,) = await house.decisions()

    assert (decision["outcome"], decision["details"]["key"]) == ("error", "2027-01-15")
    assert "pattern of the trigger changed" in decision["reason"]


async def test_a_key_of_a_changed_calendar_keeps_its_deadline(works: OpenWorks) -> None:
    """A part that comes under the changed pattern finds its key open, until the time of day of the very same day."""
    opens = Opens(cron="0 9 * * *", key='day(now, "UTC")')
    house = await works(config(join_of("a", "b", within=None, until="10:00", opens=opens)))
    bells = Bells(house)
    await bells.arm()
    await bells.ring(T0 + HOUR)
    changed = config(join_of("a", "b", "c", within=None, until="10:00", opens=opens), hash="c2", version="v2")
    house.rules.swap(compile_rules(changed, {}))
    await bells.arm()
    await house.put(came("a", "2027-01-15", at=T0 + HOUR + 9))
    (waits,) = await house.decisions(outcome="waiting")
    await bells.ring(T0 + 2 * HOUR)

    assert (waits["details"]["until"], waits["details"]["missing"]) == ("2027-01-15T10:00:00Z", ["b", "c"])
    assert sorted(await house.outcomes()) == ["error", "overdue"]


async def test_a_trigger_that_is_gone_lets_its_keys_go_at_their_deadline(works: OpenWorks) -> None:
    """What a removed trigger had gathered ends in a visible error when its time has come, and no timer is left."""
    house = await works(config(join_of("a", "b")))
    await house.put(came("a"))
    house.rules.swap(compile_rules(make_config([make_trigger("other")], hash="c2"), {}))
    await Bells(house).ring(T0 + HOUR + 1)
    (decision,) = await house.decisions()

    assert decision["outcome"] == "error"
    assert "gone or disabled" in decision["reason"]
    assert await do(house.store, lambda tx: len(tx.due_timers(9))) == 0


async def test_a_paused_join_is_not_overdue(works: OpenWorks) -> None:
    """Deadlines wait for a paused trigger; what was held comes to its key before they are looked at."""
    house = await works(config(join_of("a", "b")))
    bells = Bells(house)
    await house.put(came("a"))
    house.rules.pause("j", Paused.HOLD)
    await house.put(came("b", at=T0 + 5))
    await bells.ring(T0 + 2 * HOUR)
    paused = sorted(await house.outcomes())
    house.releases.release(["j"])
    await house.releases.settled()
    await bells.ring(T0 + 3 * HOUR)

    assert paused == ["paused", "waiting"]
    assert await house.outcomes() == ["fired"]
    assert len(await house.all_runs()) == 1


async def test_keys_that_are_done_with_are_forgotten(works: OpenWorks) -> None:
    """A key is remembered for parts that come late, then forgotten; events of open keys are kept however old."""
    house = await works(config(join_of("a", "b", remember=HOUR)))
    await house.put(came("a", "done"), came("b", "done"), came("a", "open"))
    house.clock.at = T0 + HOUR - 100
    early = await do(house.store, lambda tx: tx.prune("rounds", tx.now(), 9))
    house.clock.at = T0 + 2 * HOUR
    gone = await do(house.store, lambda tx: tx.prune("rounds", tx.now(), 9))
    await do(house.store, lambda tx: tx.prune("events", T0 + HOUR, 9))
    open_ = [row for row in await house.decisions() if row["outcome"] == "waiting"]
    kept = {row["uid"] for row in await house.events()}

    assert (early, gone) == (0, 1)
    assert set(open_[0]["events"]) <= kept


async def test_a_part_may_take_all_its_events(works: OpenWorks) -> None:
    """With `take: all` every event counts, `parts.NAME` is a list, and the open decision holds all of them."""
    pattern = Join(parts=(part("a", Take.ALL), part("b")), within=HOUR, require="b && counts.a >= 3")
    rule = {"key": "key", "params": {"n": "${{ size(parts.a) }}", "ids": "${{ parts.a.map(e, e.id) }}"}}
    house = await works(config(pattern, run=rule))
    await house.put(came("b"))
    for n in range(3):
        await house.put(came("a", id=str(n), at=T0 + n))
    (run,) = await house.all_runs()

    assert run["params"] == {"n": 3, "ids": ["0", "1", "2"]}
