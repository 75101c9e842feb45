"""Manifests within bounds: large ones, many of them, errors in the middle, and single files (`emit: file`)."""

import json
from typing import Any

import pytest

from sensors.adapters import manifest, manifest_look
from sensors.errors import BackOff, NotConnected
from tests.support.completing import Completing

M = "o/1/manifest.json"


def _bench(manifest: dict[str, Any] | None = None, **more: Any) -> Completing:
    given = {"name": "o/{day}/manifest.json", "files": "body.files", **(manifest or {})}
    return Completing({"pattern": "o/{day}/{name}.csv", "manifest": given, "every": "60s", **more})


async def test_large_manifests_are_looked_at_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call asks for a bounded number of objects, few at a time, and goes on in the next one."""
    monkeypatch.setattr(manifest_look, "STEP", 100)
    monkeypatch.setattr(manifest_look.Budget.__init__, "__defaults__", (100,))
    bench = _bench()
    names = [f"{n:03}.csv" for n in range(350)]
    bench.manifest(M, *names)
    bench.manifest("o/2/manifest.json", *names)
    for name in names:
        bench.put(f"o/1/{name}")
        bench.put(f"o/2/{name}")
    before = bench.source.counts["head"]
    assert await bench.hint(M, "o/2/manifest.json") == []
    assert bench.source.counts["head"] - before <= 110
    assert await bench.wait(0) == [M, "o/2/manifest.json"]
    assert [len(found.members) for found in bench.sets] == [350, 350]
    assert bench.source.busiest <= 16


async def test_an_error_in_the_middle_of_a_look_loses_nothing() -> None:
    """It is looked at again. What alone must not be looked at is named as trouble, and holds up nothing else."""
    bench = _bench()
    bench.manifest(M, "a.csv")
    await bench.scan()
    bench.put("o/1/a.csv")
    bench.source.broken["o/1/a.csv"] = BackOff("slow down", 1)
    with pytest.raises(BackOff):
        await bench.wait(60)
    bench.source.broken = {"o/1/a.csv": NotConnected("down"), M: NotConnected("down")}
    with pytest.raises(NotConnected):
        await bench.wait(60)
    bench.source.broken = {"o/1/a.csv": NotConnected("denied")}
    assert await bench.wait(60) == []
    assert bench.step.trouble() == f"{M} cannot be judged: denied"
    bench.source.broken.clear()

    assert await bench.wait(60) == [M]
    assert bench.step.trouble() is None


async def test_more_manifests_than_can_be_kept_still_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are named; the others are found by each scan."""
    monkeypatch.setattr(manifest, "MAX_WAITING", 2)
    bench = _bench()
    for n in range(4):
        bench.manifest(f"o/{n}/manifest.json", "a.csv")
    await bench.scan()
    trouble = bench.step.trouble()
    assert trouble is not None
    assert "more than 2 manifests wait for their files; the oldest are o/0/manifest.json, o/1/manifest.json" in trouble
    bench.put("o/3/a.csv")
    assert await bench.scan() == ["o/3/manifest.json"]
    for n in range(3):
        bench.put(f"o/{n}/a.csv")
    await bench.scan()
    await bench.scan()

    assert len(bench.sets) == 4
    assert bench.step.trouble() is None


async def test_missing_names_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a manifest is asked anew at the interval, and still names what is missing."""
    monkeypatch.setattr(manifest, "MAX_NAMES", 3)
    bench = _bench({"within": "1h"})
    bench.manifest(M, "a.csv", "b.csv", "c.csv", "d.csv")
    await bench.scan()
    await bench.wait(3600)
    assert "4 of 4 files are missing: o/1/a.csv" in (bench.step.trouble() or "")
    for name in "abcd":
        bench.put(f"o/1/{name}.csv")
    assert await bench.scan() == []

    assert await bench.wait(60) == [M]


async def test_each_file_is_an_event_when_its_manifest_is_complete() -> None:
    """`emit: file`: by notification or scan, also after a restart; files that no manifest names wait."""
    bench = _bench(emit="file")
    bench.put("o/1/a.csv")
    bench.put("o/1/unlisted.csv")
    assert await bench.scan() == []
    bench.manifest(M, "a.csv", "b.csv")
    assert await bench.scan() == []
    bench.put("o/1/b.csv")
    assert sorted(await bench.hint("o/1/b.csv")) == ["o/1/a.csv", "o/1/b.csv"]
    assert M in bench.memory
    assert await bench.scan() == []

    bench.manifest("o/2/manifest.json", "a.csv", "b.csv")
    bench.put("o/2/a.csv")
    await bench.scan()
    bench.restart()
    bench.put("o/2/b.csv")
    assert sorted([*await bench.wait(60), *await bench.scan()]) == ["o/2/a.csv", "o/2/b.csv"]
    await bench.clock.advance(60)
    bench.manifest(M, "a.csv", "unlisted.csv")
    assert await bench.scan() == ["o/1/unlisted.csv"]
    assert bench.sets == []


async def test_an_error_while_files_pass_keeps_what_the_manifest_left_to_store() -> None:
    """The manifest's memory and the files become durable with the next answer."""
    bench = _bench(emit="file")
    bench.put("o/1/a.csv")
    await bench.scan()
    bench.manifest(M, "a.csv", "b.csv")
    await bench.hint(M)
    bench.put("o/1/b.csv")
    bench.source.fail["head"] = []
    heads = bench.source.head

    async def head(key: str, *, details: bool = False) -> Any:
        if key == "o/1/a.csv" and bench.source.asked.count(("head", key)) >= 2:
            raise BackOff("slow down", 1)
        return await heads(key, details=details)

    bench.source.head = head  # type: ignore[method-assign]
    with pytest.raises(BackOff):
        await bench.hint("o/1/b.csv")
    bench.source.head = heads  # type: ignore[method-assign]

    assert sorted(await bench.hint("o/1/b.csv")) == ["o/1/a.csv", "o/1/b.csv"]
    assert M in bench.memory
    assert json.loads(bench.cursors["sets"].value)["waiting"] == []


async def test_files_of_a_manifest_that_waits_cause_no_looks_at_it() -> None:
    """`emit: file`: what is known to be incomplete is not asked again for each file."""
    bench = _bench(emit="file")
    bench.manifest(M, "a.csv", "b.csv", "c.csv")
    await bench.hint(M)
    looks = bench.source.asked.count(("head", M))
    for name in "ab":
        bench.put(f"o/1/{name}.csv")
        assert await bench.hint(f"o/1/{name}.csv") == []

    assert bench.source.asked.count(("head", M)) == looks
