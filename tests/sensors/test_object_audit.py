"""The completeness audit of an object storage, in key order and in none, against a source in memory."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.object_audit import Horizon, ObjectAudit
from sensors.adapters.object_options import ObjectOptions
from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.position import Position
from sensors.audit import AuditReport, Findings
from sensors.batch import SeenObject
from sensors.errors import NotConnected
from sensors.listing import DELETED, PRESENT
from sensors.testing import FakeLookup
from tests.support.object_bench import ObjectBench, told
from tests.support.object_source import MemoryObjects

NOW = 1_800_000_000_000_000
OLD = NOW - 86_400_000_000
EITHER = pytest.mark.parametrize("unordered", [False, True], ids=["in key order", "in no order"])


def source_of(keys: Iterable[str], *, unordered: bool = False, page: int = 2) -> MemoryObjects:
    """Return a source with old objects."""
    source = MemoryObjects(lambda: OLD, page_size=page)
    source.unordered = unordered
    for key in keys:
        source.put(key, key.encode())
    return source


def memory_of(source: MemoryObjects, *extra: str) -> FakeLookup:
    """Return a memory of all that the source holds, and of more."""
    rows = {key: SeenObject(key, source.listed(key).token, 0, PRESENT, OLD, OLD) for key in source.objects}
    return FakeLookup({**rows, **{key: SeenObject(key, "e+1+1", 0, PRESENT, OLD, OLD) for key in extra}})


async def audited(
    source: MemoryObjects,
    lookup: FakeLookup,
    found: list[str] | None = None,
    *,
    horizon: Horizon | None = None,
    **options: object,
) -> AuditReport:
    """Audit a source."""
    scope = ObjectScope.of(ObjectOptions.model_validate({"start": "beginning", **options}), "s", source.place)
    when = horizon or Horizon(NOW, 60.0, Position("", 0, 0, baseline=True))
    return await ObjectAudit(source, scope, when, None if found is None else found.append).run(lookup)


def keys(findings: Findings) -> list[str]:
    """Return the keys that are told, sorted."""
    return sorted(finding.key for finding in findings.first)


@EITHER
async def test_what_differs_is_told(unordered: bool) -> None:
    """Missing, there again, changed, gone; before, between and behind the pages; and nothing else."""
    source = source_of(["b/1", "b/2", "d/ü", "d/😀", "e"], unordered=unordered)
    lookup = memory_of(source, "a", "b/1x", "d/z", "z/1", "z/2")
    lookup.objects["b/2"] = SeenObject("b/2", "other", 0, PRESENT, OLD, OLD)
    lookup.objects["d/😀"] = SeenObject("d/😀", source.listed("d/😀").token, 1, DELETED, OLD, OLD)
    lookup.objects["was/here"] = SeenObject("was/here", "e+1+1", 1, DELETED, OLD, OLD)
    del lookup.objects["e"]
    found: list[str] = []
    report = await audited(source, lookup, found)

    assert (report.listed, report.remembered) == (5, 8)
    assert keys(report.missing) == ["d/😀", "e"]
    assert keys(report.changed) == ["b/2"]
    assert keys(report.extra) == ["a", "b/1x", "d/z", "z/1", "z/2"]
    assert sorted(found) == sorted([*keys(report.missing), "b/2", *keys(report.extra)])
    assert report.healed == 8


@EITHER
async def test_only_what_is_watched_counts(unordered: bool) -> None:
    """Neighbours of the prefix are not looked at, what is left out is counted by its reason and is not extra."""
    source = source_of(["in/a.csv", "in/b.txt", "in/.c.csv", "in/d.csv", "in-other", "inn", "im"], unordered=unordered)
    source.put("in/small.csv", b"")
    report = await audited(
        source, memory_of(source, "in/gone.csv", "in-gone", "i"), prefix="in/", pattern="in/{name}.csv", min_size=1
    )

    assert report.listed == 5
    assert report.ignored == {"pattern": 1, "ignore": 1, "min_size": 1}
    assert keys(report.extra) == ["in/gone.csv"]
    assert (report.missing.count, report.changed.count) == (0, 0)


@EITHER
async def test_more_memory_than_one_reading_takes(unordered: bool) -> None:
    """A source that was emptied is told of in full, however much of it is remembered."""
    source = source_of(["m"], unordered=unordered)
    report = await audited(source, memory_of(source, *[f"k/{n:05}" for n in range(11_000)], "z"))

    assert (report.remembered, report.extra.count, report.missing.count) == (11_002, 11_001, 0)
    assert len(report.extra.first) == 100


@EITHER
async def test_what_changed_while_we_looked_is_not_told(unordered: bool) -> None:
    """An object that the sensor made known after the audit began is not taken for one that is gone."""
    source = source_of(["a"], unordered=unordered)
    lookup = memory_of(source)
    lookup.objects["new"] = SeenObject("new", "e+1+1", 0, PRESENT, NOW + 1, NOW + 1)

    assert (await audited(source, lookup)).extra.count == 0


@pytest.mark.parametrize(
    ("horizon", "reason"),
    [
        pytest.param(
            Horizon(OLD + 100_000_000, 60.0, Position("", 0, 0, baseline=True)),
            "it is newer than the last scan",
            id="new",
        ),
        pytest.param(Horizon(NOW, 60.0, Position("", 0, 0)), "the first scan is not complete", id="first scan"),
        pytest.param(Horizon(NOW, 60.0, Position("", NOW, NOW)), "before `start`", id="history"),
        pytest.param(
            Horizon(NOW, 60.0, Position("", 0, 0, baseline=True), sets=True), "it may not be complete", id="sets"
        ),
    ],
)
async def test_what_the_sensor_comes_to_by_itself(horizon: Horizon, reason: str) -> None:
    """Such objects are counted by their reason, and neither missing nor handed over."""
    found: list[str] = []
    report = await audited(source_of(["a", "b"]), FakeLookup(), found, horizon=horizon)

    assert report.waiting == {reason: 2}
    assert (report.missing.count, found) == (0, [])


async def test_a_source_that_cannot_be_listed() -> None:
    """What the source raises is raised; half an audit says nothing."""
    source = source_of(["a", "b", "c"])
    source.fail["page"] = [NotConnected("denied")]
    with pytest.raises(NotConnected, match="denied"):
        await audited(source, FakeLookup())


_KEYS = st.lists(st.text("ab/~é\U0001f600", min_size=1, max_size=4), unique=True, max_size=12)


@given(_KEYS, _KEYS, st.booleans(), st.integers(1, 5), st.sampled_from(["", "a", "a/", "é"]))
async def test_any_source_against_any_memory(
    listed: list[str], remembered: list[str], unordered: bool, page: int, prefix: str
) -> None:
    """However keys and pages lie, exactly the difference of the two sets is told."""
    source = source_of(listed, unordered=unordered, page=page)
    rows = {key: SeenObject(key, f"{source.listed(key).token}", 0, PRESENT, OLD, OLD) for key in listed}
    lookup = FakeLookup({key: rows.get(key, SeenObject(key, "e+1+1", 0, PRESENT, OLD, OLD)) for key in remembered})
    report = await audited(source, lookup, prefix=prefix, ignore=[])
    there = {key for key in listed if key.startswith(prefix)}
    known = {key for key in remembered if key.startswith(prefix)}

    assert keys(report.missing) == sorted(there - known)
    assert keys(report.extra) == sorted(known - there)
    assert (report.listed, report.remembered, report.changed.count) == (len(there), len(known), 0)


async def test_a_running_sensor_is_audited_and_healed() -> None:
    """What was lost behind the sensor's back becomes an event after an audit that heals, and the next one is clean."""
    bench = ObjectBench()
    for key in ("a", "b", "c"):
        bench.memory.put(key)
    sensor = await bench.connect()
    await bench.rest()
    await bench.clock.advance(600)
    await bench.rest()
    memory = bench.inbox.lookup("s").objects
    memory["b"] = SeenObject("b", memory["b"].token, 3, DELETED, OLD, OLD)
    looked = await sensor.audit(heal=False)
    healed = await sensor.audit(heal=True)
    events = await bench.rest()
    again = await sensor.audit(heal=True)
    await bench.close()

    assert (keys(looked.missing), looked.healed) == (["b"], 0)
    assert healed.healed == 1
    assert told(events) == [("created", "b")]
    assert (again.missing.count, again.healed, again.remembered) == (0, 0, 3)
