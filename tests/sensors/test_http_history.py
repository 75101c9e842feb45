"""Random histories of an API under random faults and restarts, against the simplest model of what must come of them.

Rows are created, changed within one second, become visible late (within the overlap) and go, also between two pages;
requests fail in every way. Each version that a complete poll showed is exactly one event, and at the end nothing that
is there was missed.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api_world import LATE, World

FAULTS = ["timeout", "half", "429", "date", "double", "shuffle", "crash", "quota"]
# Drawn so that what matters is common: late rows beside early ones, polls between them, few faults at a time.
moves = st.one_of(
    st.tuples(st.just("create"), st.sampled_from([0, 0, 0, 5, 20, LATE - 1])),
    st.tuples(st.just("change"), st.integers(0, 20)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
)
faults = st.dictionaries(st.integers(1, 4), st.sampled_from(FAULTS), max_size=2)
polls = st.tuples(st.just("poll"), st.tuples(faults, st.lists(st.lists(moves, max_size=2), max_size=2)))
calm = st.tuples(st.just("poll"), st.just(({}, [])))
waits = st.tuples(st.just("wait"), st.sampled_from([0, 1, 6, LATE // 2, LATE, 2 * LATE]))
several = st.tuples(st.just("several"), st.tuples(st.integers(4, 8), st.sampled_from([1, 2 * LATE])))
steps = st.one_of(moves, moves, waits, polls, polls, calm, several, st.tuples(st.just("restart"), st.just(0)))
WORLDS = [
    pytest.param(rising, paging, id=f"{rising}-{paging}")
    for rising in ("moment", "number", "nothing")
    for paging in ("none", "offset", "cursor")
]


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


async def _run(rising: Any, paging: Any, start: str, history: list[tuple[str, Any]]) -> None:
    world = World(rising, paging)
    watch = world.watch(start)
    complete: set[tuple[int, int]] = set()
    silent: set[tuple[int, int]] | None = None if start == "now" else set()
    shown: set[tuple[int, int]] = set()  # by any poll before the first complete one
    for what, value in [*history, ("wait", 2 * LATE), *[("poll", ({}, []))] * 4]:
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


@pytest.mark.parametrize(("rising", "paging"), WORLDS)
@settings(
    max_examples=300,
    phases=[__import__("hypothesis").Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(start=st.sampled_from(["beginning", "now"]), history=st.lists(steps, min_size=8, max_size=30))
def test_each_version_is_one_event_whatever_happens(
    rising: str, paging: str, start: str, history: list[tuple[str, Any]]
) -> None:
    """Exactly one event per version shown by a complete poll, first `created`, then `changed`; nothing is missed."""
    asyncio.run(_run(rising, paging, start, history))
