"""Files of values go when nothing can need them any more."""

import os
import time
from pathlib import Path

from pipelines.run import RunState
from tests.support.works import Works, make_config, make_pipeline
from tests.tidegate.conftest import OpenWorks
from tidegate.values import CODE, RESUMABLE, YOUNG, sweep_once

CONFIG = make_config([], [make_pipeline("p", "one")])


def values(state: Path, uid: str, age: float = 0.0) -> Path:
    folder = state / "values" / uid
    folder.mkdir(parents=True)
    (folder / "a.arrow").write_bytes(b"x")
    os.utime(folder, (time.time() - age,) * 2)
    return folder


async def ended(house: Works, state: RunState) -> str:
    run, _ = await house.start("p")
    await house.work(state)
    return run.uid


async def test_values_go_with_the_need_for_them(works: OpenWorks, tmp_path: Path) -> None:
    """At once after a success; after some days when a run failed, for it may be resumed; never under a run at work."""
    house = await works(CONFIG)
    succeeded = values(tmp_path, await ended(house, RunState.SUCCEEDED))
    failed = values(tmp_path, await ended(house, RunState.FAILED), age=RESUMABLE - 60)
    failed_long_ago = values(tmp_path, await ended(house, RunState.FAILED), age=RESUMABLE + 60)
    queued = values(tmp_path, (await house.start("p"))[0].uid, age=10 * RESUMABLE)
    unknown = values(tmp_path, "run_unknown", age=YOUNG + 60)
    unknown_yet = values(tmp_path, "run_unknown_yet")

    assert await sweep_once(house.store, tmp_path, time.time()) == 3
    assert not any(folder.exists() for folder in (succeeded, failed_long_ago, unknown))
    assert all(folder.exists() for folder in (failed, queued, unknown_yet))


async def test_versions_of_code_go_when_nobody_has_used_them(works: OpenWorks, tmp_path: Path) -> None:
    """A version that was imported lately stays."""
    house = await works(CONFIG)
    (tmp_path / "code").mkdir()
    for name, age in (("old", CODE + 60), ("young", CODE - 60)):
        (tmp_path / "code" / name).write_text("x")
        os.utime(tmp_path / "code" / name, (time.time() - age,) * 2)
    await sweep_once(house.store, tmp_path, time.time())

    assert [path.name for path in (tmp_path / "code").iterdir()] == ["young"]
