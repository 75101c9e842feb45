"""Random histories of an API under random faults and restarts, against the simplest model of what must come of them.

Rows are created, changed within one second, become visible late (within the overlap) and go, also between two pages;
requests fail in every way. Each version that a complete poll showed is exactly one event, and at the end nothing that
is there was missed.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api_world import LATE, Paging, Rising, World

FAULTS = ["timeout", "half", "429", "date", "double", "shuffle", "crash", "quota"]
# Drawn so that what matters is common: late rows beside early ones, polls between them, few faults at a time.
moves = st.one_of(
    st.tuples(st.just("create"), st.sampled_from([0, 0, 0, 5, 20, LATE - 1])),
    st.tuples(st.just("change"), st.integers(0, 20)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
)
faults = st.dictionaries(st.integers(1, 4), st.sampled_from(FAULTS), max_size=2)
polls = st.tuples(st.just("poll"), st.tuples(faults, st.lists(st.lists(moves, max_size=2), max_size=2)))
calm: st.SearchStrategy[Any] = st.tuples(st.just("poll"), st.just(({}, [])))
waits = st.tuples(st.just("wait"), st.sampled_from([0, 1, 6, LATE // 2, LATE, 2 * LATE]))
several = st.tuples(st.just("several"), st.tuples(st.integers(4, 8), st.sampled_from([1, 2 * LATE])))
steps = st.one_of(moves, moves, waits, polls, polls, calm, several, st.tuples(st.just("restart"), st.just(0)))
WORLDS: tuple[tuple[Rising, Paging], ...] = tuple(
    (rising, paging) for rising in ("moment", "number", "nothing") for paging in ("none", "offset", "cursor")
)


def _moves(world: World, moves: list[tuple[str, int]]) -> None:
    for what, value in moves:
        _move(world, what, value)


def _move(world: World, what: str, value: int) -> None:
    if what == "create":
        world.create(value)
    elif what == "change":
        world.change(value)
    else:
        world.delete(value)


async def live(rising: Rising, paging: Paging, start: str, history: Sequence[tuple[str, Any]]) -> Counter[str]:
    """Live through a history; return what was done in it. AssertionError names the promise that was broken."""
    world = World(rising, paging)
    watch = world.watch(start)
    complete: set[tuple[int, int]] = set()
    silent: set[tuple[int, int]] | None = None if start == "now" else set()
    shown: set[tuple[int, int]] = set()  # by any poll before the first complete one
    done: Counter[str] = Counter()
    for what, value in [*history, ("wait", 2 * LATE), *[("poll", ({}, []))] * 4]:
        done[what] += 1
        if what == "wait":
            await world.clock.advance(value)
        elif what == "restart":
            await watch.restart()
        elif what == "several":  # rows of some age each, so that a list has pages
            for _ in range(value[0]):
                world.create(0)
                await world.clock.advance(value[1])
        elif what == "poll":
            world.faults = dict(value[0])
            world.between = [partial(_moves, world, some) for some in value[1]]
            ended = await world.poll(watch)
            done["complete" if ended else "broken off"] += 1
            world.between = []
            if silent is None:
                shown |= world.served
                if ended and '"baseline":true' in watch.cursor.replace(" ", ""):
                    silent = set(shown)
            elif ended:
                complete |= world.served
        else:
            _move(world, what, value)
    await watch.close()

    events = [(int(str(event.subject)), int(event.id.rpartition("@")[2])) for event in watch.inbox.events]
    assert silent is not None
    assert [pair for pair, count in Counter(events).items() if count > 1] == []
    assert set(events) <= world.made, "nothing is invented"
    assert complete - silent <= set(events), "each version that a complete poll showed is an event"
    assert not silent & set(events), "what was there at first is no event"
    there = {(row.id, row.version) for row in world.visible()}
    assert there <= set(events) | silent, "nothing that is there was missed"
    first: dict[int, str] = {}
    newest: dict[int, int] = {}
    known = {id_ for id_, _ in silent}
    for event, (id_, version) in zip(watch.inbox.events, events, strict=True):
        kind = event.type.rpartition(".")[2]
        assert kind == ("changed" if id_ in first or id_ in known else "created")
        first[id_] = kind
        assert version > newest.get(id_, 0), "versions come in their order"
        newest[id_] = version
    done["event"] += len(events)
    return done


def check(rising: Rising, paging: Paging, examples: int) -> Counter[str]:
    """Live through so many random histories; return what was done in all. Raises with the story of a broken promise."""
    done: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=False,
    )
    @given(start=st.sampled_from(["beginning", "now"]), history=st.lists(steps, min_size=8, max_size=30))
    def one(start: str, history: list[tuple[str, Any]]) -> None:
        done.update(asyncio.run(live(rising, paging, start, history)))

    one()
    return done
