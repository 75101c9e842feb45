"""Forgetting by age, as the durable timer does it."""

from config.model import Retention
from pipelines.run import RunState
from tests.support.stores import do
from tests.support.works import Works, make_config, make_event, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.retention import KIND, ArmRetention, handler
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from triggers.trigger import Paused

DAY = 86_400_000_000
KEEP = Retention(events=10 * 86_400.0, runs=20 * 86_400.0, decisions=5 * 86_400.0)


async def _forget(house: Works) -> list[Timer]:
    """Let the handler do one pass; return the timers that are set then."""

    def fire(tx: Tx) -> None:
        handler(lambda: KEEP)(tx, Timer(tx.now(), KIND, "all"))

    await do(house.store, fire)
    house.clock.at += 3_600_000_000
    timers = await do(house.store, lambda tx: list(tx.due_timers(10)))
    house.clock.at -= 3_600_000_000
    return timers


async def test_arming_sets_one_timer(works: OpenWorks) -> None:
    """However often the service starts, there is one retention timer, due soon."""
    house = await works(make_config())
    for _ in range(3):
        await house.store.submit(ArmRetention(), None)
    early = await do(house.store, lambda tx: list(tx.due_timers(10)))
    house.clock.at += 10_000_000

    assert early == []
    assert [timer.kind for timer in await do(house.store, lambda tx: list(tx.due_timers(10)))] == [KIND]


async def test_only_what_is_old_goes(works: OpenWorks) -> None:
    """Events, decisions and runs go when their own age has come, not before; the timer sets itself again."""
    house = await works(make_config([make_trigger(sensor="s", filter={"prefix": {"subject": "go"}})]))
    await house.put(make_event("plain", received_at=house.clock.now()))
    await house.put(make_event("cause", subject="go", received_at=house.clock.now()))
    await house.work()

    async def left() -> tuple[list[str], int, int]:
        ids = sorted(row["id"] for row in await house.events())
        return ids, len(await house.decisions()), len(await house.all_runs())

    decided = len(await house.decisions())
    seen = []
    for days in (4, 2, 5, 10):
        house.clock.at += days * DAY
        assert [timer.kind for timer in await _forget(house)] == [KIND]
        seen.append(await left())

    assert seen[0] == (["cause", "plain"], decided, 1)  # day 4
    assert seen[1] == (["cause", "plain"], 0, 1)  # day 6: decisions
    assert seen[2] == (["cause"], 0, 1)  # day 11: the event that no run refers to
    assert seen[3] == ([], 0, 0)  # day 21: the run, and with it its event


async def test_what_goes_on_is_never_forgotten(works: OpenWorks) -> None:
    """Runs that wait or run, what they were caused by, and held events stay, however old."""
    triggers = [make_trigger("runs"), make_trigger("holds", "q", sensor="other", paused=Paused.HOLD)]
    house = await works(make_config(triggers))
    await house.put(make_event("cause", received_at=house.clock.now()))
    await house.put(make_event("held", sensor="other", received_at=house.clock.now()))
    house.clock.at += 400 * DAY
    for _ in range(3):
        await _forget(house)

    assert [row["id"] for row in await house.events()] == ["cause"]
    assert [row["id"] for row in await house.events("other")] == ["held"]
    assert await house.outcomes(trigger="holds") == ["paused"]
    assert [run["state"] for run in await house.all_runs()] == ["queued"]


async def test_a_key_outlives_its_run(works: OpenWorks) -> None:
    """A key whose run is forgotten is still used: a success stays a duplicate, a failure may be tried again."""
    house = await works(make_config([make_trigger(run={"key": "event.subject"})]))
    for subject, state in (("good", RunState.SUCCEEDED), ("bad", RunState.FAILED)):
        await house.put(make_event(subject=subject))
        await house.work(state)
    house.clock.at += 30 * DAY
    await _forget(house)
    assert await house.all_runs() == []
    await house.put(make_event(subject="good"))
    await house.put(make_event(subject="bad"))

    assert [(run["key"], run["generation"]) for run in await house.all_runs()] == [("bad", 2)]


async def test_the_memory_of_ids_has_its_own_expiry(works: OpenWorks) -> None:
    """Forgetting an event does not make its id new again before its dedup time is over."""
    house = await works(make_config())
    await house.put(make_event("a", received_at=house.clock.now()), dedup_for=15 * 86_400.0)
    house.clock.at += 12 * DAY
    await _forget(house)
    gone = await house.events()
    early = await house.put(make_event("a"), dedup_for=15 * 86_400.0)
    house.clock.at += 4 * DAY
    await _forget(house)
    late = await house.put(make_event("a"))

    assert gone == []
    assert (early.receipts[0].duplicate, late.receipts[0].duplicate) == (True, False)
