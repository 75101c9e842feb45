"""What is expected of files: columns, types and rows, written down or as in the file before; and how it is told."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.column_types import accepts, join, normal_type
from sensors.adapters.content_options import ContentOptions
from sensors.adapters.contents import make_inspector
from sensors.adapters.expectations import (
    Last,
    compare_columns,
    compare_last,
    compare_rows,
    next_last,
    read_last,
)
from sensors.adapters.object_steps import Inspected, Inspector
from sensors.adapters.refusing import accepted, as_told, is_refused, is_untold, letter_of, refused, with_content
from sensors.adapters.shapes import Column, Origin, Shape, shown
from sensors.batch import Cursor, SeenObject
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.listing import Change, What

TYPES = ["int64", "int32", "float64", "string", "bool", "date", "timestamp[us]", "null", "list<int64>"]
ORIGINS: list[Origin] = ["declared", "text", "json"]


def shape(columns: Mapping[str, str], *, rows: int = 1, exact: bool = True, origin: Origin = "declared") -> Shape:
    """Return a form."""
    return Shape("csv", [Column(name, kind) for name, kind in columns.items()], rows, exact, origin)


shapes = st.builds(
    shape,
    st.dictionaries(st.text(max_size=5), st.sampled_from(TYPES), max_size=6),
    rows=st.integers(0, 5),
    exact=st.booleans(),
    origin=st.sampled_from(ORIGINS),
)


# -- types ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("expected", "found", "fits"),
    [
        ("int", "uint8", {"declared", "text", "json"}),
        ("int64", "int32", {"text", "json"}),
        ("int64", "int64", {"declared", "text", "json"}),
        ("float", "float32", {"declared", "text", "json"}),
        ("float", "int64", {"text", "json"}),
        ("number", "decimal(10,2)", {"declared", "text", "json"}),
        ("decimal(10, 2)", "decimal(10,2)", {"declared", "text", "json"}),
        ("decimal", "float64", {"text", "json"}),
        ("string", "int64", {"text"}),
        ("string", "date", {"text", "json"}),
        ("timestamp", "date", {"text", "json"}),
        ("timestamp", "timestamp[ns, UTC]", {"declared", "text", "json"}),
        ("timestamp[us, UTC]", "timestamp[us, UTC]", {"declared", "text", "json"}),
        ("timestamp[us]", "timestamp[us, UTC]", {"text", "json"}),
        ("date", "string", set()),
        ("int", "float64", set()),
        ("int", "string", set()),
        ("bool", "int64", set()),
        ("list", "list<int64>", {"declared", "text", "json"}),
        ("list<int64>", "list<string>", {"text", "json"}),
        ("bool", "null", {"declared", "text", "json"}),
        ("any", "struct<a: int64>", {"declared", "text", "json"}),
    ],
)
def test_which_types_are_what_was_meant(expected: str, found: str, fits: set[str]) -> None:
    """Declared types are taken by their word; guessed ones are accepted if the values could be of the expected type."""
    assert {origin for origin in ORIGINS if accepts(normal_type(expected), found, origin)} == fits


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Integer", "int"),
        ("str", "string"),
        ("double", "float64"),
        ("DATETIME", "timestamp"),
        ("timestamp[us, Europe/Oslo]", "timestamp[us,Europe/Oslo]"),
        ("decimal(10, 2)", "decimal(10,2)"),
        ("list<struct<a: int64>>", "list<struct<a:int64>>"),
    ],
)
def test_friendly_names_of_types(written: str, normal: str) -> None:
    """What people write is understood."""
    assert normal_type(written) == normal


@pytest.mark.parametrize("written", ["", "integre", "int63", "decimal", "timestamp[h]", "varchar(20)", "int64 null"])
def test_what_is_no_type_is_refused(written: str) -> None:
    """With a sentence that lists what there is."""
    if written == "decimal":
        assert normal_type(written) == "decimal"
        return
    with pytest.raises(ValueError, match="write one of"):
        normal_type(written)


@given(st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from(ORIGINS))
def test_a_joined_type_holds_both(one: str, other: str, origin: Origin) -> None:
    """Joining again changes nothing, and every type joins with itself and with no value."""
    both = join(one, other, origin)
    if both is not None:
        assert join(both, one, origin) == both
        assert join(both, other, origin) == both
    assert join(one, one, origin) == one
    assert join(one, "null", origin) == one
    assert join("null", one, origin) == one


# -- differences ------------------------------------------------------------------------------------------------------
def test_what_is_missing_added_and_retyped_is_told() -> None:
    """As data, and in one sentence."""
    found = shape({"id": "string", "extra": "int64"})
    difference = compare_columns(found, {"id": "int64", "amount": "float", "day": None}, "exact")
    assert difference.data() == {
        "missing": ["amount", "day"],
        "added": [{"name": "extra", "type": "int64"}],
        "retyped": [{"name": "id", "expected": "int64", "found": "string"}],
    }
    assert difference.sentence() == (
        "columns `amount`, `day` are missing; column `extra` is not expected; `id` is string and should be int64"
    )
    assert not compare_columns(found, {"id": None}, "at_least")


def test_many_differences_make_a_short_sentence() -> None:
    """The data has them all, the sentence the first few; names cannot break it."""
    names = {f"column\n{index}": "int" for index in range(1000)}
    missing = compare_columns(shape({}), names, "exact")
    assert missing.sentence().endswith("and 995 more are missing")
    assert "\n" not in missing.sentence()
    assert len(missing.data()["missing"]) == 1000
    retyped = compare_columns(shape(dict.fromkeys(names, "bool")), names, "exact")
    assert retyped.sentence().endswith("995 more have other types")
    assert len(shown("x" * 1000)) < 70


def test_a_column_that_occurs_twice() -> None:
    """It counts once, and the second is one too many where all columns are compared."""
    twice = Shape("csv", [Column("id", "int64"), Column("id", "string")], 1, exact=True, origin="text")
    assert not compare_columns(twice, {"id": "int"}, "at_least")
    assert compare_columns(twice, {"id": "int"}, "exact").data() == {"added": [{"name": "id", "type": "string"}]}


@pytest.mark.parametrize(
    ("rows", "exact", "least", "most", "told"),
    [
        (0, True, 1, None, "it has 0 rows and should have at least 1"),
        (1, True, 1, 1, ""),
        (5, True, None, 4, "it has 5 rows and should have at most 4"),
        (5, False, None, 4, "it has at least 5 rows and should have at most 4"),
        (5, False, 10, None, ""),
        (5, False, None, 5, ""),
    ],
)
def test_bounds_of_rows(rows: int, exact: bool, least: int | None, most: int | None, told: str) -> None:
    """What was not counted to its end is refused only for what is known."""
    difference = compare_rows(shape({}, rows=rows, exact=exact), least, most)
    assert difference.sentence() == told
    assert bool(difference) == bool(told)


@given(shapes)
def test_a_file_is_as_it_is(found: Shape) -> None:
    """Compared with itself there is no difference, written down or remembered."""
    types = {column.name: column.type for column in found.columns}
    expected: dict[str, str | None] = {name: normal_type(kind) for name, kind in types.items()}
    assert not compare_columns(found, expected, "exact")
    last = next_last(found, None, 0)
    if last is not None:
        assert read_last(last.to_json()) == last
        assert not compare_last(found, last)


@given(shapes, shapes)
def test_every_difference_of_columns_is_told(one: Shape, other: Shape) -> None:
    """Missing and added are exactly the differing names; the data is JSON; a difference has a sentence."""
    last = next_last(one, None, 0)
    if last is None or not other.telling:
        return
    difference = compare_last(other, last)
    mine, theirs = {c.name for c in one.columns}, {c.name for c in other.columns}
    assert set(difference.missing) == mine - theirs
    assert {column.name for column in difference.added} == theirs - mine
    assert bool(difference) == bool(difference.sentence()) == bool(difference.data())
    assert orjson.loads(orjson.dumps(difference.data())) == difference.data()
    if not difference:
        following = next_last(other, last, 0)
        assert following is not None
        assert not compare_last(other, following)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v":2}', '{"v":1,"columns":[]}', '{"v":1,"columns":{}}'])
def test_another_form_of_what_is_kept_is_an_error(text: str) -> None:
    """It is never taken for no file before."""
    with pytest.raises(ValueError, match=r".+"):
        read_last(text)


# -- the inspector ----------------------------------------------------------------------------------------------------
def expecting(**expect: Any) -> Inspector:
    """Return an inspector that expects this."""
    made = make_inspector(ContentOptions.model_validate({"expect": expect}))
    assert made is not None
    return made


async def look(inspector: Inspector, data: bytes, name: str = "a.csv") -> Inspected:
    """Inspect a file."""

    async def read(start: int, length: int) -> bytes:
        begin = max(0, len(data) + start) if start < 0 else start
        return data[begin : begin + length]

    return await inspector.inspect(name, len(data), read)


async def test_a_file_as_expected_has_its_form_among_its_data() -> None:
    """No violation, and `expect` reads without `inspect`."""
    found = await look(expecting(columns={"id": "int", "amount": "float"}, rows={"min": 1}), b"id,amount,x\n1,2,3\n")
    assert found.violation is None
    assert found.difference == {}
    assert found.data["rows"] == 1


async def test_all_that_differs_is_in_one_sentence() -> None:
    """Columns and rows together."""
    found = await look(expecting(columns=["id", "amount"], rows={"min": 5}), b"id\n1\n")
    assert found.violation == "column `amount` is missing; it has 1 row and should have at least 5"
    assert found.difference == {"missing": ["amount"], "rows": {"min": 5, "found": 1, "exact": True}}


async def test_what_cannot_be_read_is_not_what_was_expected() -> None:
    """Closed, not open: an unreadable file is refused."""
    found = await look(expecting(rows={"min": 0}), b"not parquet, whatever it says", "a.parquet")
    assert found.violation == "it cannot be read: it does not end as a Parquet file does; was it cut off?"
    assert set(found.difference) == set(found.data) == {"error"}


async def test_json_without_rows_has_no_columns_to_miss() -> None:
    """An empty array breaks only bounds of rows."""
    assert (await look(expecting(columns=["id"]), b"[]", "a.json")).violation is None
    assert (await look(expecting(columns=["id"]), b"", "a.ndjson")).violation is None
    assert (await look(expecting(rows={"min": 1}), b"[]", "a.json")).violation is not None


async def test_as_last_compares_with_the_last_accepted_file() -> None:
    """The first one is taken as it is; a refused one is no measure; what it knows survives a restart."""
    inspector = expecting(mode="as_last")
    inspector.take_up({})
    assert (await look(inspector, b"id,amount\n1,2\n")).violation is None
    (cursor,) = inspector.cursors()
    assert cursor.shard == "expect"
    assert inspector.cursors() == ()
    broken = await look(inspector, b"id,total\n1,2\n")
    assert broken.violation == "column `amount` is missing; column `total` is not expected"
    assert inspector.cursors() == ()
    again = expecting(mode="as_last")
    again.take_up({"expect": cursor, "": Cursor("", "of another")})
    assert (await look(again, b"id,total\n1,2\n")).violation is not None
    assert (await look(again, b"amount,id\n2,1\n")).violation is None
    assert again.cursors() == ()


async def test_as_last_lets_guessed_types_widen_and_not_break() -> None:
    """Whole numbers may become decimals; words in a column of numbers are refused; empty columns say nothing."""
    inspector = expecting(mode="as_last")
    for data, fits in [
        (b"n,e\n1,\n", True),
        (b"n,e\n1.5,\n", True),
        (b"n,e\n1,x\n", True),
        (b"n,e\nword,x\n", False),
        (b"n,e\n,1\n", True),
        (b"n,e\n2.5,y\n", True),
    ]:
        assert ((await look(inspector, data)).violation is None) == fits, data
    (cursor,) = inspector.cursors()
    assert read_last(cursor.value) == Last({"n": "float64", "e": "string"}, "text", 0)


async def test_a_new_generation_accepts_another_form() -> None:
    """The operator's word that the form has changed; later files are compared with the new one."""
    inspector = expecting(mode="as_last")
    await look(inspector, b"id\n1\n")
    (cursor,) = inspector.cursors()
    later = expecting(mode="as_last", generation=1)
    later.take_up({"expect": cursor})
    assert (await look(later, b"other\n1\n")).violation is None
    assert (await look(later, b"id\n1\n")).violation is not None
    (cursor,) = later.cursors()
    again = expecting(mode="as_last", generation=1)
    again.take_up({"expect": cursor})
    assert (await look(again, b"other\n1\n")).violation is None


def test_a_position_of_a_newer_version_stops_the_sensor() -> None:
    """It does not begin anew by itself."""
    with pytest.raises(NotConnected, match="newer version"):
        expecting(mode="as_last").take_up({"expect": Cursor("expect", '{"v":9}')})


# -- what becomes of a refused object ---------------------------------------------------------------------------------
def _seen(extra: str = "", state: str = "present") -> SeenObject:
    return SeenObject("a.csv", "1+1", 0, state, 1, 1, extra)


@given(st.sampled_from(["", '{"mine":1}']), st.lists(st.booleans(), max_size=6))
def test_nobody_is_told_of_an_overwritten_object_who_was_not_told_of_the_first(extra: str, fine: list[bool]) -> None:
    """The first accepted version is `created`, later ones are `overwritten`; what else is remembered stays."""
    seen = _seen(extra)
    told: list[What] = []
    for index, good in enumerate(fine):
        change: Change[None] = Change(What.OVERWRITTEN if index else What.CREATED, None, seen)
        change = as_told(change)
        if good:
            told.append(change.what)
            seen = accepted(seen)
        else:
            seen = refused(seen, change.what)
        assert is_refused(seen) == (not good)
        assert is_untold(seen) == (not told)
        assert ("mine" in seen.extra) == bool(extra)
    assert told == [What.CREATED, *[What.OVERWRITTEN] * (len(told) - 1)][: len(told)]


def _event(data: bytes | None = b'{"size":3}') -> Event:
    return Event(
        sensor="s", id="a.csv@1+1#0", uid="evt_1", source="file:///x", type="object.created", received_at=1,
        subject="a.csv", data=data, content_type="application/json", match={"day": "1"},
    )  # fmt: skip


def test_a_dead_letter_has_the_event_that_would_have_been_and_the_difference() -> None:
    """All that is needed to find out what happened, and where."""
    found = Inspected({"rows": 1}, "column `amount` is missing", {"missing": ["amount"]})
    letter = letter_of(_event(), found)
    assert (letter.reason, letter.position, letter.detail) == ("refused", "a.csv", "column `amount` is missing")
    payload = orjson.loads(letter.payload)
    assert payload["difference"] == {"missing": ["amount"]}
    assert payload["event"]["data"] == {"size": 3, "rows": 1}
    assert payload["event"]["id"] == "a.csv@1+1#0"


def test_what_was_read_joins_the_events_data() -> None:
    """Nothing that was there is lost; nothing read changes nothing."""
    event = with_content(_event(), Inspected({"rows": 1}))
    assert orjson.loads(event.data or b"") == {"size": 3, "rows": 1}
    assert with_content(_event(), Inspected()) == _event()
    assert orjson.loads(with_content(_event(None), Inspected({"rows": 1})).data or b"") == {"rows": 1}
