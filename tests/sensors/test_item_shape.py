"""The form of items: what is told of a change, and that each is told once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.item_shape import MOST, Field, Sample, compare, from_json, to_json


def sample(*items: Any) -> Sample:
    found = Sample()
    for item in items:
        found.add(item)
    return found


def test_null_and_optional_fields_are_no_change() -> None:
    """A field that may be absent or null stays what it is; one that all had is told when it is first missing."""
    known = sample({"a": 1, "b": None}, {"a": 2, "b": "x", "c": True}).fields()
    known, change = compare(known, sample({"a": None, "b": None}, {"a": 1.5, "b": None}))
    assert not change
    known, change = compare(known, sample({"b": "y"}))
    assert change.data() == {"added": [], "removed": ["a"], "retyped": []}
    known, change = compare(known, sample({"b": "y"}))
    assert not change


def test_what_is_inside_is_told_with_its_path() -> None:
    """Fields of inner objects count; an object that is absent or null lacks nothing; maps of data have no form."""
    known = sample({"id": 1, "who": {"name": "a"}, "days": {"2026-01-31": 1}}).fields()
    assert set(known) == {"id", "who", "who.name", "days"}
    known, change = compare(known, sample({"id": 1, "who": None, "days": {"2026-02-01": 1}}))
    assert not change
    known, change = compare(known, sample({"id": 1, "who": {"name": 5}, "days": {}}))
    assert change.data()["retyped"] == [{"name": "who.name", "expected": ["string"], "found": ["number"]}]


def test_items_that_are_no_objects_have_no_form() -> None:
    """Numbers, texts and lists are items as well, and tell nothing."""
    found = sample(1, "x", [{"a": 1}], None)
    assert (found.count, found.fields()) == (0, {})


def test_the_form_is_bounded() -> None:
    """An item with endlessly many fields costs no more than the bound."""
    found = sample({f"f{n}": n for n in range(MOST * 2)})
    assert len(found.fields()) == MOST
    known, change = compare(found.fields(), sample({f"g{n}": n for n in range(50)}))
    assert len(known) == MOST
    assert not change.added


values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
records = st.dictionaries(st.sampled_from("abcd"), values | st.dictionaries(st.sampled_from("xy"), values), max_size=4)


@given(st.lists(st.lists(records, min_size=1, max_size=4), min_size=2, max_size=8))
def test_each_change_is_told_once(history: list[list[dict[str, Any]]]) -> None:
    """Over any history: each field is added at most once, goes at most once, and each of its types is new once."""
    known = sample(*history[0]).fields()
    told: list[tuple[str, ...]] = []
    for items in history[1:]:
        before = known
        known, change = compare(known, sample(*items))
        told += [("added", name) for name in change.added] + [("removed", name) for name in change.removed]
        for name, (types, found) in change.retyped.items():
            told += [("type", name, kind) for kind in set(found) - set(types)]
        assert bool(change) or {name: found.types for name, found in known.items() if before[name].types} == {
            name: found.types for name, found in before.items() if found.types
        }
        assert from_json(to_json(known)) == known
        again, nothing = compare(known, sample(*items))
        assert (again, bool(nothing)) == (known, False)
    assert len(told) == len(set(told))


def test_a_stored_form_is_read_as_it_was_written() -> None:
    """Types and whether all had a field survive a restart."""
    known = {"a": Field(("number", "string"), always=True), "b.c": Field((), always=False)}
    assert from_json(to_json(known)) == known
