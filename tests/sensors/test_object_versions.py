from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sensors.adapters.object_judge import Steps
from sensors.adapters.object_versions import compare_versions
from sensors.adapters.objects import Listed
from sensors.adapters.s3_source import S3Source
from sensors.batch import SeenObject
from sensors.kinds.s3 import S3Options
from tests.support.object_bench import ObjectBench, told

SECOND = 1_000_000


def version(name: str, second: int, *, deleted: bool = False) -> Listed:
    return Listed("k", 0 if deleted else 1, "e", second * SECOND, name, deleted=deleted)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(1, 8), min_size=1, max_size=8),
)
def test_each_version_is_told_once(steps: list[tuple[int, bool]], looks: list[int]) -> None:
    """However often and however late the versions of a key are listed, each of them is news exactly once."""
    versions, at = [], 0
    for n, (wait, deleted) in enumerate(steps):
        at += wait
        versions.append(version(f"v{n}", at, deleted=deleted))
    seen: dict[str, SeenObject] = {}
    told: list[str] = []
    for upto in [*sorted(looks), len(versions), len(versions)]:
        for change in compare_versions(reversed(versions[:upto]), seen, 9):
            seen[change.seen.key] = change.seen
            told.append(change.id)

    expected = {f"k@{one.version}#0{'!deleted' if one.deleted else ''}" for one in versions}
    assert len(told) == len(set(told))
    assert set(told) == expected


def test_a_delete_marker_is_a_deletion_and_what_follows_is_created() -> None:
    """The types follow the life of the key."""
    found = compare_versions([version("c", 3), version("b", 2, deleted=True), version("a", 1)], {}, 9)

    assert [change.what.name for change in found] == ["CREATED", "DELETED", "CREATED"]
    assert [change.id for change in found] == ["k@a#0", "k@b#0!deleted", "k@c#0"]


async def test_versions_from_before_the_start_are_history() -> None:
    """With `start: now` no version that was there is an event, be it the first of its key, a later one or a marker."""
    bench = ObjectBench({"start": "now", "on": ["created", "overwritten", "deleted"]})
    bench.steps = lambda _source: Steps(versions=True)
    bench.memory.unordered = bench.memory.versioned = True
    old = [version("v0", 1), version("v1", 2), version("v2", 3, deleted=True)]
    bench.memory.pages = lambda: old
    await bench.connect()
    assert await bench.rest() == []
    now = bench.clock.now() // SECOND
    old.append(version("v3", now + 1))
    assert told(await bench.scan()) == [("created", "k")]
    await bench.close()


VERSIONS = [("j", 1, "j1"), ("k", 3, "k3"), ("k", 2, "k2"), ("k", 1, "k1"), ("l", 1, "l1")]


class Bucket:
    """A client of a bucket that lists its versions as S3 does: by key, the newest first."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def call(self, operation: str, /, **asked: Any) -> Mapping[str, Any]:
        start = 0
        if "VersionIdMarker" in asked:
            assert asked["VersionIdMarker"]  # an empty one is refused
            start = next(n for n, one in enumerate(VERSIONS) if one[2] == asked["VersionIdMarker"]) + 1
        elif "KeyMarker" in asked:
            start = next((n for n, one in enumerate(VERSIONS) if one[0] > asked["KeyMarker"]), len(VERSIONS))
        part = VERSIONS[start : start + asked["MaxKeys"]]
        listed = [
            {
                "Key": key,
                "Size": 1,
                "ETag": "e",
                "LastModified": datetime.fromtimestamp(1000 + at, UTC),
                "VersionId": name,
            }
            for key, at, name in part
        ]
        if start + asked["MaxKeys"] >= len(VERSIONS):
            return {"Versions": listed}
        more = {"NextKeyMarker": part[-1][0], "NextVersionIdMarker": part[-1][2]}
        return {"Versions": listed, "IsTruncated": True, **more}


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_versions_of_a_key_on_two_pages_are_all_told(size: int) -> None:
    """S3 lists the newest version first: the older ones, on the next page, are told all the same, and in order."""
    client: Any = Bucket()
    source = S3Source(client, "bucket", versions=True, page=size)
    seen: dict[str, SeenObject] = {}
    told_of: list[str] = []
    token: str | None = None
    while True:
        page = await source.page("", token)
        for change in compare_versions(page.objects, seen, 9):
            seen[change.seen.key] = change.seen
            told_of.append(change.seen.token)
        token = page.next
        if token is None:
            break

    assert told_of == ["j1", "k1", "k2", "k3", "l1"]


@pytest.mark.parametrize(
    "more",
    [
        {"head": True},
        {"reupload": "ignore"},
        {"inspect": True},
        {"expect": {"columns": ["a"]}},
        {"after": {"do": "delete"}},
    ],
)
def test_what_looks_at_the_newest_version_does_not_go_with_versions(more: dict[str, Any]) -> None:
    """It would take one version for another, so it is refused with a sentence."""
    with pytest.raises(ValidationError, match="exclude each other"):
        S3Options.model_validate({"bucket": "landing", "start": "now", "versions": True, **more})


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(1000 + at, UTC)
