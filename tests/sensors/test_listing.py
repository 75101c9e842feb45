"""The difference engine: what is new, overwritten, back again, or gone."""

from hypothesis import given
from hypothesis import strategies as st

from sensors.batch import SeenObject
from sensors.listing import Change, Entry, What, compare, object_id, vanished


def _entry(key: str, token: str) -> Entry[None]:
    return Entry(key, token, None, None)


def _apply(memory: dict[str, SeenObject], changes: list[Change[None]]) -> None:
    memory.update({change.seen.key: change.seen for change in changes})


def test_a_created_object_is_one_change_and_then_none() -> None:
    """What is remembered as it is makes no change."""
    memory: dict[str, SeenObject] = {}
    first = compare([_entry("a", "1+2")], memory, 7)
    _apply(memory, first)

    assert [(change.what, change.id) for change in first] == [(What.CREATED, "a@1+2#0")]
    assert compare([_entry("a", "1+2")], memory, 8) == []


def test_content_that_comes_back_within_a_second_is_a_new_fact() -> None:
    """A, B and A again, all written in one second: three versions, three ids; a later one keeps the number."""
    memory: dict[str, SeenObject] = {}
    ids = []
    for token in ("a+1+7", "b+1+7", "a+1+7", "b+1+8", "a+1+7"):
        changes = compare([_entry("k", token)], memory, 1)
        _apply(memory, changes)
        ids += [change.id for change in changes]

    assert ids == ["k@a+1+7#0", "k@b+1+7#1", "k@a+1+7#2", "k@b+1+8#2", "k@a+1+7#3"]


def test_a_deleted_and_recreated_object_is_a_new_incarnation() -> None:
    """The same key and token after an observed deletion has another id."""
    memory: dict[str, SeenObject] = {}
    _apply(memory, compare([_entry("a", "1+2")], memory, 1))
    gone: list[Change[None]] = vanished(memory.values(), 2)
    _apply(memory, gone)
    back = compare([_entry("a", "1+2")], memory, 3)

    assert [change.id for change in gone] == ["a@1+2#0!deleted"]
    assert [(change.what, change.id) for change in back] == [(What.CREATED, "a@1+2#1")]
    assert vanished(memory.values(), 4) == []


def test_an_overwrite_keeps_incarnation_and_first_seen() -> None:
    """Another token of a present object is an overwrite."""
    memory = {"a": SeenObject("a", "1", 3, "present", 10, 10, "x")}

    (change,) = compare([_entry("a", "2")], memory, 20)

    assert change.what is What.OVERWRITTEN
    assert change.seen == SeenObject("a", "2", 3, "present", 10, 20, "x")


def test_a_key_twice_in_a_page_counts_once() -> None:
    """A page that drifted and lists a key twice makes one change."""
    assert [change.id for change in compare([_entry("a", "1"), _entry("a", "2")], {}, 1)] == ["a@2#0"]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3), max_size=12))
def test_every_history_of_listings_is_told_exactly(listings: list[dict[str, str]]) -> None:
    """Replaying the changes of any sequence of complete listings gives the last listing, and scanning again nothing."""
    memory: dict[str, SeenObject] = {}
    mirror: dict[str, str] = {}
    incarnations: set[str] = set()
    for now, listing in enumerate(listings):
        changes = compare([_entry(key, token) for key, token in listing.items()], memory, now)
        missing: list[Change[None]] = vanished([o for key, o in memory.items() if key not in listing], now)
        for change in [*changes, *missing]:
            key = change.seen.key
            if change.what is What.DELETED:
                del mirror[key]
            else:
                assert (change.what is What.CREATED) == (key not in mirror)
                mirror[key] = change.seen.token
            if change.what is What.CREATED:
                name = f"{key}#{change.seen.incarnation}"
                assert name not in incarnations
                incarnations.add(name)
        _apply(memory, [*changes, *missing])

        assert mirror == listing
        assert compare([_entry(key, token) for key, token in listing.items()], memory, now) == []
        assert all(object_id(seen).startswith(f"{seen.key}@") for seen in memory.values())
