"""Random rules, and random events for them: single events, elements, keys, joins, sequences, counts and silences."""

from dataclasses import replace
from typing import Any

import orjson
from hypothesis import strategies as st

from sensors.event import Event
from tests.support.join_works import join_of, part, waiting_for
from tests.support.works import make_event, make_trigger
from triggers.pattern import SECOND, Absence, Count, Late
from triggers.trigger import Repeat, Trigger

STEP = SECOND
WHENS = [None, "event.data.n > 3", "event.data.n < 6", "event.data.n != 4 && event.data.n % 2 == 0", "event.data.x > 1"]
FILTERS = [None, {"exact": {"type": "a"}}, {"prefix": {"subject": "k"}}, {"not": {"exact": {"data.n": 2}}}]
KEYS = [{}, {"key": "event.subject"}, {"key": "string(event.data.n)", "params": {"n": "${{ event.data.n }}"}}]


def plain(name: str, filter: Any, when: str | None, run: dict[str, Any], repeat: str) -> Trigger:
    """Return a trigger of single events."""
    return make_trigger(name, filter=filter, when=when, run=run, repeat=Repeat(repeat))


def each(name: str, when: str | None) -> Trigger:
    """Return a trigger that asks for a run per element."""
    return make_trigger(name, each="event.data.items", when=when, run={"params": {"item": "${{ item }}"}})


def joined(name: str, require: str, within: int, late: str, take: str) -> Trigger:
    """Return a join; those that are overdue start something as well."""
    parts = tuple(part(one, take) for one in ("a", "b", "c"))
    pattern = replace(
        join_of("a", "b", "c", within=within * STEP, require=require, late=Late(late), remember=20 * STEP), parts=parts
    )
    run = {"params": {"ids": "${{ events.map(e, e.id) }}"}} if take == "all" else {"key": "key"}
    return waiting_for(pattern, name, run=run, overdue=[{"params": {"missing": "${{ missing }}"}}])


def counted(name: str, reach: int, within: int) -> Trigger:
    """Return a count."""
    return waiting_for(Count(part=part("a", "all"), reach=reach, within=within * STEP), name, run={})


def absent(name: str, silence: int, after: bool, by: bool) -> Trigger:
    """Return a silence."""
    key = "event.subject" if by or after else None
    pattern = Absence(part=part("b", by=key), silence=silence * STEP, after=part("a", "all", by=key) if after else None)
    return waiting_for(pattern, name, run={"params": {"missing": "${{ missing }}"}})


def rules(*, timers: bool) -> st.SearchStrategy[list[Trigger]]:
    """Return strategies for some triggers; without `timers` none that time may fire."""
    within = st.integers(2, 15) if timers else st.just(100_000)
    some: list[st.SearchStrategy[Any]] = [
        st.builds(
            plain,
            st.just("p"),
            st.sampled_from(FILTERS),
            st.sampled_from(WHENS),
            st.sampled_from(KEYS),
            st.sampled_from(["retry_failed", "skip", "always"]),
        ),
        st.builds(each, st.just("e"), st.sampled_from([None, "item > 2", "event.data.n > 3"])),
        st.builds(
            joined,
            st.just("j"),
            st.sampled_from(["all", "2", "a || (b && c)"]),
            within,
            st.sampled_from(["ignore", "refire"]),
            st.sampled_from(["first", "latest", "all"]),
        ),
        st.builds(counted, st.just("c"), st.integers(2, 3), within),
    ]
    if timers:
        some.append(st.builds(absent, st.just("s"), st.integers(2, 9), st.booleans(), st.booleans()))
    return st.lists(st.one_of(some), min_size=1, max_size=3, unique_by=lambda one: one.name)


MOMENTS = st.lists(
    st.tuples(
        st.sampled_from("aabbc"), st.sampled_from(["k", "k", "m"]), st.integers(1, 6), st.integers(0, 8), st.booleans()
    ),
    max_size=18,
)


def events_of(moments: list[tuple[str, str, int, int, bool]], base: int) -> list[Event]:
    """Return the events of some moments: type, key, seconds since the one before, a number, whether it is all there."""
    made, now = [], base
    for number, (kind, key, gap, n, whole) in enumerate(moments):
        now += gap * STEP
        data = {"n": n, "items": list(range(n)), "x": 2} if whole else {"n": n, "items": [n]}
        made.append(
            make_event(
                f"{number:03}",
                type=kind,
                subject=key,
                received_at=now,
                data=orjson.dumps(data),
                content_type="application/json",
            )
        )
    return made
