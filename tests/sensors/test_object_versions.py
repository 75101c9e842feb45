from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.object_versions import compare_versions
from sensors.adapters.objects import Listed
from sensors.batch import SeenObject

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
