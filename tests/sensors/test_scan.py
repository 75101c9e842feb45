import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors import scan as scanning
from sensors.batch import SeenObject
from sensors.listing import DELETED, PRESENT, Change, Entry, What
from sensors.scan import KeyFilter, Scan, Shard, before_prefix
from sensors.testing import FakeInbox

LETTERS = "a/bé~\U0001f600-0"
keys = st.text(LETTERS, min_size=1, max_size=5)


def remembered(known: dict[str, str]) -> FakeInbox:
    """Return an inbox that remembers keys, each with a state, since moment 1."""
    inbox = FakeInbox()
    for key, state in known.items():
        inbox.lookup("s").objects[key] = SeenObject(key, "t", 0, state, 1, 1)
    return inbox


async def look(
    inbox: FakeInbox, listed: Sequence[str], size: int, *, ordered: bool = True, prefix: str = ""
) -> tuple[list[Change[None]], set[str]]:
    """Scan a listing in pages of a size; return the changes and what was missing."""
    lookup = inbox.lookup("s")
    shard = Shard(prefix)
    scan: Scan[None] = Scan(begun=5, ordered=ordered, shards=[shard])
    changes: list[Change[None]] = []
    pages = [listed[n : n + size] for n in range(0, len(listed), size)] or [[]]
    for n, page in enumerate(pages):
        shard.done = n == len(pages) - 1
        found = await scan.page(lookup, shard, page, [Entry(key, "t", None, None) for key in page], 6)
        lookup.objects.update({change.seen.key: change.seen for change in found})
        changes += found
    missing: set[str] = set()
    while True:
        rows, all_of_them = await scan.missing(lookup, 3)
        missing |= {row.key for row in rows}
        if all_of_them:
            return changes, missing


@given(
    st.dictionaries(keys, st.sampled_from([PRESENT, DELETED])),
    st.sets(keys),
    st.integers(1, 7),
    st.booleans(),
    st.sampled_from(["", "a", "a/", "é", "\U0001f600"]),
)
def test_a_scan_finds_what_is_new_and_what_is_missing(
    known: dict[str, str], there: set[str], size: int, ordered: bool, prefix: str
) -> None:
    """Whatever is listed and not remembered is new, whatever is remembered below the prefix and not listed missing."""
    listed = sorted(key for key in there if key.startswith(prefix))
    changes, missing = asyncio.run(look(remembered(known), listed, size, ordered=ordered, prefix=prefix))

    created = {change.seen.key for change in changes if change.what is What.CREATED}
    assert created == {key for key in listed if known.get(key) != PRESENT}
    expected = {key for key, state in known.items() if state == PRESENT and key.startswith(prefix)} - there
    assert missing == expected


async def test_an_unchanged_source_asks_for_one_range_a_page() -> None:
    """Memory is read beside the pages, in their order, and nothing comes of it."""
    listed = [f"k{n:04}" for n in range(100)]
    inbox = remembered(dict.fromkeys(listed, PRESENT))

    assert await look(inbox, listed, 10) == ([], set())


async def test_more_gaps_than_are_kept_are_found_by_the_next_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is not forgotten: the scan says that another one should follow, which finds the rest."""
    monkeypatch.setattr(scanning, "MAX_GAPS", 2)
    known = [f"k{n}" for n in range(10)]
    inbox = remembered(dict.fromkeys(known, PRESENT))
    lookup = inbox.lookup("s")
    left = set(known[1::2])
    for _ in range(3):
        _, missing = await look(inbox, known[::2], 100)
        left -= missing
        for key in missing:
            lookup.objects[key] = SeenObject(key, "t", 0, DELETED, 1, 7)

    assert left == set()


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_another_route_looked_at_meanwhile_is_not_missing(ordered: bool) -> None:
    """A notification may be ahead of the listing: its key's absence from an earlier page proves nothing."""
    inbox = remembered({"a": PRESENT, "b": PRESENT, "c": PRESENT})
    lookup = inbox.lookup("s")
    lookup.objects["c"] = SeenObject("c", "t", 0, PRESENT, 1, 9)  # by another replica, after the scan began
    shard = Shard("", done=True)
    scan: Scan[None] = Scan(begun=5, ordered=ordered, shards=[shard])
    await scan.page(lookup, shard, [], [], 6)
    scan.touch("a")
    missing: list[str] = []
    done = False
    while not done:
        rows, done = await scan.missing(lookup, 10)
        missing += [row.key for row in rows]

    assert missing == ["b"]


async def test_half_a_look_at_an_unordered_source_proves_no_absence() -> None:
    """What a former process listed is not known here, so nothing is missing; new keys are found all the same."""
    inbox = remembered({"a": PRESENT})
    lookup = inbox.lookup("s")
    shard = Shard("", done=True)
    scan: Scan[None] = Scan(begun=5, ordered=False, shards=[shard], whole=False)
    changes = await scan.page(lookup, shard, ["b"], [Entry("b", "t", None, None)], 6)

    assert [change.seen.key for change in changes] == ["b"]
    assert await scan.missing(lookup, 10) == ((), True)


@given(st.sets(keys), st.sets(keys))
def test_a_filter_is_never_wrong_about_a_listed_key(listed: set[str], others: set[str]) -> None:
    """A key that was added is always found."""
    found = KeyFilter(1 << 10)
    for key in listed:
        found.add(key)

    assert all(key in found for key in listed)
    assert not listed or sum(key in found for key in others - listed) <= len(others) // 2 + 1


@given(keys, keys)
def test_the_place_before_a_prefix(prefix: str, other: str) -> None:
    """All keys with the prefix sort behind it, and other keys keep their side."""
    edge = before_prefix(prefix)

    assert edge < prefix <= prefix + other
    if not other.startswith(prefix):
        assert (other > edge) == (other > prefix)


@given(st.sets(keys, min_size=1), st.sets(keys), st.sampled_from(["", "a"]))
def test_what_lies_below_no_part_of_a_listing_is_missing(known: set[str], there: set[str], whole: str) -> None:
    """Parts cover what is there; a folder that is gone is below none of them and is found missing all the same."""
    listed = sorted(key for key in there if key.startswith(whole))
    parts = sorted({key[: len(whole) + 1] for key in listed})
    if whole in parts:
        parts = [whole]
    inbox = remembered(dict.fromkeys(known, PRESENT))

    async def scan_parts() -> set[str]:
        lookup = inbox.lookup("s")
        shards = [Shard(part) for part in parts]
        scan: Scan[None] = Scan(begun=5, ordered=True, shards=shards, within=[whole])
        for shard in shards:
            shard.done = True
            page = [key for key in listed if key.startswith(shard.prefix)]
            changes = await scan.page(lookup, shard, page, [Entry(key, "t", None, None) for key in page], 6)
            lookup.objects.update({change.seen.key: change.seen for change in changes})
        found: set[str] = set()
        while True:
            rows, all_of_them = await scan.missing(lookup, 2)
            found |= {row.key for row in rows}
            if all_of_them:
                return found

    assert asyncio.run(scan_parts()) == {key for key in known if key.startswith(whole)} - there
