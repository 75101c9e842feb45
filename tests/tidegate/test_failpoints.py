"""Named points at which a process dies."""

import os
import signal

import pytest

from tidegate.failpoints import POINTS, make_fail_point, pass_by


def test_unarmed_points_are_free() -> None:
    """Without the variable every point is passed by the very function that does nothing."""
    assert make_fail_point({}) is pass_by


@pytest.mark.parametrize("name", ["ingest.nowhere", "store.before_comit", ":3"])
def test_a_point_that_does_not_exist_is_refused(name: str) -> None:
    """An armed point that can never fire proves nothing: it is refused with the names that there are."""
    with pytest.raises(ValueError, match=r"which is none of: ingest\.begin"):
        make_fail_point({"TIDEGATE_FAILPOINT": name})


@pytest.mark.parametrize(("armed", "passes"), [("store.begin", 1), ("store.begin:1", 1), ("store.begin:3", 3)])
def test_the_process_dies_at_the_pass_that_was_named(armed: str, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Death is SIGKILL to this very process, at the named pass of the named point and at no other."""
    deaths: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: deaths.append((pid, number)))
    fail_point = make_fail_point({"TIDEGATE_FAILPOINT": armed})
    for other in POINTS:
        if other != "store.begin":
            fail_point(other)
    for n in range(1, passes + 1):
        assert deaths == []
        fail_point("store.begin")
        assert bool(deaths) == (n == passes)

    assert deaths == [(os.getpid(), signal.SIGKILL)]
