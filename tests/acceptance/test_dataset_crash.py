"""The service is killed while it writes datasets; `make writes` does it at every step of a run, on every target."""

import pathlib

import pytest

from tests.campaigns._writes import Rounds, Target


async def test_a_run_killed_after_its_publish_step_writes_no_row_twice(tmp_path: pathlib.Path) -> None:
    """Killed when rows are published and nobody knows it yet, the run ends as without the kill."""
    target = Target(name="parquet", uri="parquet://out/{}.parquet")
    found = await Rounds(target, tmp_path / "service").run(["hold:append/dataset.published"])

    assert (found.kills, found.lost, found.doubled, found.orphans, found.wrong) == (1, 0, 0, 0, [])


@pytest.mark.campaign
async def test_without_the_memory_of_writes_rows_would_be_twice(tmp_path: pathlib.Path) -> None:
    """The same kill with the memory taken away is caught: the test above can fail."""
    target = Target(name="parquet", uri="parquet://out/{}.parquet")
    found = await Rounds(target, tmp_path / "service", sabotage=True).run(["hold:append/dataset.published"])

    assert found.doubled > 0
