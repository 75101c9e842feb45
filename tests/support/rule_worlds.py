"""Random rules and events that have to do with each other, and a second opinion on what a change does to an event.

Filters and conditions look at the few places that events have, with the few values that events hold, so that most
pairs are decided by one clause among several. The second opinion shares nothing with the code that names changes.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import strategies as st

from sensors.event import Event
from triggers.testing import event

_TEXTS = ("a", "b", "orders/a.csv", "orders/b.parquet", "x-1", "é")
TEXTS = st.sampled_from(_TEXTS)
NUMBERS = st.integers(-3, 5)
VALUES = TEXTS | NUMBERS | st.booleans() | st.sampled_from([0.5, 2.5])
_TEXT_FIELDS = ("subject", "type", "source", "attributes.k", "match.day", "kind")
_DATA_FIELDS = ("data.n", "data.s", "data.b", "data.f", "data.l.0", "data.o.s", "data.o.n", "data.none.such")


def events() -> st.SearchStrategy[Event]:
    """Draw an event by its number; now and then its content is no mapping."""
    return st.integers(0, 2**32).map(_event)


def _event(number: int) -> Event:
    rand = random.Random(number)

    def text() -> str:
        return rand.choice(_TEXTS)

    def some(**fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if rand.random() < 0.6}

    number_or_text = rand.choice([rand.randint(-3, 5), "7"])
    listed = [rand.choice([rand.randint(-3, 5), text()]) for _ in range(rand.randint(0, 3))]
    inner = some(n=rand.randint(-3, 5), s=text())
    data = some(n=number_or_text, s=text(), b=rand.random() < 0.5, f=rand.choice([0.5, 2.5]), l=listed, o=inner)
    return replace(
        event(
            "s",
            type=rand.choice(["t1", "t2", "a"]),
            subject=rand.choice([None, text()]),
            data=rand.choice([data, data, data, data, None, text(), listed]),
            attributes=some(k=text(), kind=text()),
            match=some(day=text()),
        ),
        time=rand.choice([None, 0, 1_767_225_600_000_000, 1_767_225_600_500_000]),
    )


def _atoms() -> st.SearchStrategy[Mapping[str, Any]]:
    texts = st.tuples(st.sampled_from(["exact", "prefix", "suffix"]), st.sampled_from(_TEXT_FIELDS), TEXTS)
    values = st.tuples(st.just("exact"), st.sampled_from(_DATA_FIELDS), VALUES)
    parts = st.tuples(st.sampled_from(["prefix", "suffix"]), st.sampled_from(_DATA_FIELDS), TEXTS)
    times = st.tuples(
        st.sampled_from(["exact", "prefix", "suffix"]),
        st.just("time"),
        st.sampled_from(["2026-01-01T00:00:00Z", "1970", "2026-01", "Z", "00Z"]),
    )
    return st.one_of(texts, values, values, parts, times).map(lambda atom: {atom[0]: {atom[1]: atom[2]}})


def filters() -> st.SearchStrategy[Mapping[str, Any]]:
    """Draw filters as people write them: all six dialects, nested."""
    return st.recursive(
        _atoms(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
            inner.map(lambda part: {"not": part}),
        ),
        max_leaves=5,
    )


_LEAVES = st.sampled_from(
    [
        "event.data.n > 1", "event.data.n <= -1", "2 < event.data.n", "event.data.n == event.data.o.n",
        'event.data.s == "a"', 'event.data.s != "a"', 'event.data["s"] in ["a", "b"]', "3 in event.data.l",
        'event.data.s.startsWith("orders/")', 'event.data.s.endsWith(".csv")', 'event.subject.contains("a")',
        "has(event.data.o)", "has(event.data.o.s)", "!has(event.data.n)", "event.data.b", "!event.data.b",
        "size(event.data.l) >= 2", "event.data.l.size() == 0", "event.data.l[1] == 3", "event.data.f * 2.0 > 3.0",
        "event.subject != null", "event.subject == null", 'event.type == "t1"', '"k" in event.attributes',
        'event.attributes.k == "b"', 'event.match["day"] == "x-1"', "string(event.data.n) == '2'",
        "int(event.data.n) > 3",
        'event.data.s.matches("^[a-z]-[0-9]$")', "event.data.l.exists(one, one == 3)", "event.data.n + 1 > 3",
        "event.time != null", 'event.time > timestamp("2025-01-01T00:00:00Z")', 'event.data.s.upperAscii() == "B"',
        "event.data.b ? event.data.n > 0 : event.data.n < 0", 'event.data.s == "a && b || c"',
    ]
)  # fmt: skip


def conditions() -> st.SearchStrategy[str]:
    """Draw conditions: comparisons joined by and, or, not, and branches."""
    return st.recursive(
        _LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(" && ".join).map("({})".format),
            st.lists(inner, min_size=2, max_size=3).map(" || ".join).map("({})".format),
            inner.map("!({})".format),
            st.tuples(inner, inner, inner).map(lambda three: "(({}) ? ({}) : ({}))".format(*three)),
        ),
        max_leaves=5,
    )


def applied(given: Event, changes: Any) -> Event:
    """Apply changes to an event: another way than the product's."""
    for change in changes:
        given = _applied(given, [*change.steps], change.value, remove=change.remove)
    return given


def _applied(given: Event, steps: list[str | int], value: Any, *, remove: bool) -> Event:
    head = str(steps[0])
    if head in ("time", "received_at"):
        moment = None if remove else round(datetime.fromisoformat(value).timestamp() * 1e6)
        return replace(given, **{head: moment})  # type: ignore[arg-type]
    if head in ("attributes", "match"):
        texts = {name: text for name, text in getattr(given, head).items() if name != steps[1]}
        return replace(given, **{head: texts if remove else {**texts, str(steps[1]): value}})  # type: ignore[arg-type]
    if head != "data":
        return replace(given, **{head: None if remove else value})  # type: ignore[arg-type]
    if len(steps) == 1:
        return replace(given, data=None if remove else orjson.dumps(value), content_type="application/json")
    root: Any = {"data": _parsed(given)}
    place: Any = root
    for step, following in pairwise(steps):
        key = step if isinstance(place, dict) else int(step)
        if isinstance(place, list) and len(place) <= int(key):
            place.extend([None] * (int(key) + 1 - len(place)))
        inner = place.get(key) if isinstance(place, dict) else place[int(key)]
        fits = isinstance(inner, list) if isinstance(following, int) else isinstance(inner, dict)
        fits = fits or (isinstance(inner, list) and str(following).isdigit())
        if not fits:
            inner = [] if isinstance(following, int) else {}
        place[key] = inner
        place = inner
    last: Any = str(steps[-1]) if isinstance(place, dict) else int(steps[-1])
    if isinstance(place, list) and len(place) <= last:
        place.extend([None] * (last + 1 - len(place)))
    if remove:
        place.pop(last, None) if isinstance(place, dict) else place.pop(last)
    else:
        place[last] = value
    return replace(given, data=orjson.dumps(root["data"]), content_type="application/json")


def _parsed(given: Event) -> Any:
    if given.data is None:
        return None
    return orjson.loads(given.data) if given.content_type == "application/json" else given.data.decode()
