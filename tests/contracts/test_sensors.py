"""One contract suite over every sensor kind that the registry holds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, ValidationError

from sensors.batch import Batch, Cursor
from sensors.clock import SystemClock
from sensors.errors import NotConnected, Refused
from sensors.event import Event
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.ports import Lookup, Prefilter
from sensors.registry import builtin_kinds
from sensors.sensor import Sensor
from sensors.testing import (
    ContractBroken,
    EverythingWanted,
    FakeLookup,
    check_event,
    check_kind,
    check_sensor,
    make_request,
)
from tests.contracts.sensor_cases import CASES

_KINDS = [pytest.param(kind, id=kind.name) for kind in builtin_kinds()]
_AWAY = [pytest.param(kind, id=kind.name) for kind in builtin_kinds() if not (kind.push or CASES[kind.name].sourceless)]
_PUSH = [pytest.param(kind, id=kind.name) for kind in builtin_kinds() if kind.push]


def _context(kind: SensorKind, base: Path) -> SensorContext:
    return SensorContext(kind.name, "svc", SystemClock(), base)


def test_every_kind_has_a_case() -> None:
    """No kind comes without a test of its contract."""
    assert {kind.name for kind in builtin_kinds()} == set(CASES)


@pytest.mark.parametrize("kind", _KINDS)
async def test_the_kit_finds_nothing_to_complain_of(
    kind: SensorKind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Declaration, events, durability and restart keep the contract that plug-ins are held to."""
    case = CASES[kind.name]
    if case.place is not None:
        request.getfixturevalue(case.place)

    async def stimulate() -> None:
        assert case.stimulate is not None
        await case.stimulate(tmp_path)

    events = await check_sensor(
        kind,
        case.options(tmp_path),
        base=tmp_path,
        stimulate=stimulate if case.stimulate else None,
        requests=case.requests,
    )
    assert len(events) == len({event.id for event in events}) >= 1


@pytest.mark.parametrize("kind", _KINDS)
def test_building_touches_nothing(kind: SensorKind, tmp_path: Path) -> None:
    """A sensor is built although its source is not there, and the options show no secret."""
    case = CASES[kind.name]
    options = kind.options.model_validate(case.options(tmp_path / "nowhere"))
    kind.build(options, _context(kind, tmp_path / "nowhere"))
    assert "secret='secret'" not in repr(options)
    assert '"secret":"secret"' not in options.model_dump_json()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", _KINDS)
def test_bad_options_are_refused(kind: SensorKind) -> None:
    """What must be said cannot be left out."""
    for options in CASES[kind.name].bad:
        with pytest.raises(ValidationError):
            kind.options.model_validate(options)


@pytest.mark.parametrize("kind", _KINDS)
def test_common_options_are_known_to_every_kind(kind: SensorKind, tmp_path: Path) -> None:
    """`enabled`, `paused`, `was`, `cursor` and `tags` work everywhere."""
    common = {"enabled": False, "paused": "hold", "was": "old", "cursor": "keep", "tags": ["a"]}
    options = kind.options.model_validate({**CASES[kind.name].options(tmp_path), **common})
    assert (options.enabled, options.paused, options.was, options.cursor, options.tags) == (
        False,
        "hold",
        "old",
        "keep",
        ("a",),
    )


@pytest.mark.parametrize("kind", _AWAY)
async def test_a_pull_sensor_without_its_source_says_not_connected(kind: SensorKind, tmp_path: Path) -> None:
    """A source that is not there is NotConnected with a sentence, and can be tried again."""
    options = kind.options.model_validate(CASES[kind.name].options(tmp_path / "nowhere"))
    sensor = kind.build(options, _context(kind, tmp_path))
    for _ in range(2):
        with pytest.raises(NotConnected, match=r"\w+ \w+"):
            await sensor.connect({}, FakeLookup(), EverythingWanted())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", _PUSH)
async def test_a_push_sensor_gives_redeliveries_the_same_id(kind: SensorKind, tmp_path: Path) -> None:
    """The same request twice is the same event, under another uid."""
    case = CASES[kind.name]
    sensor = kind.build(kind.options.model_validate(case.options(tmp_path)), _context(kind, tmp_path))
    one = await sensor.receive(case.requests[0])  # type: ignore[union-attr]
    two = await sensor.receive(case.requests[0])  # type: ignore[union-attr]
    assert [event.id for event in one.events] == [event.id for event in two.events]
    assert [event.uid for event in one.events] != [event.uid for event in two.events]


@pytest.mark.parametrize("kind", _PUSH)
async def test_a_push_sensor_refuses_the_unverified(kind: SensorKind, tmp_path: Path) -> None:
    """Without the right proof the answer is 401 and says nothing."""
    sensor = kind.build(kind.options.model_validate(CASES[kind.name].options(tmp_path)), _context(kind, tmp_path))
    with pytest.raises(Refused) as refused:
        await sensor.receive(make_request(b"{}"))  # type: ignore[union-attr]
    assert (refused.value.status, refused.value.public) == (401, "")


# -- the kit itself: it must find what is broken ---------------------------------------------------------------------


class _Options(SensorOptions):
    pass


class _Counter:
    """Emits one event, again and again: it keeps no position and makes a new id each time."""

    made = 0

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        pass

    async def read(self) -> Batch:
        _Counter.made += 1
        uid = f"evt_{_Counter.made:026d}"
        event = Event(sensor="bad", id=uid, uid=uid, source="/s", type="t.made", received_at=1)
        return Batch(events=(event,))

    async def close(self) -> None:
        pass


def _build(options: Any, context: SensorContext) -> Sensor:
    return _Counter()


_EMITS = Emits({"t.*": "x"}, "", "", "", "", {"id": "1", "source": "/s", "type": "t.made"})
_BAD = SensorKind("bad", "help", _Options, _build, _EMITS)


async def test_the_kit_finds_ids_that_differ_after_a_restart(tmp_path: Path) -> None:
    """A sensor that tells the same thing anew is caught."""
    with pytest.raises(ContractBroken, match="after a restart"):
        await check_sensor(_BAD, {}, base=tmp_path, within=0.2)


def test_the_kit_finds_what_a_kind_forgot_to_declare(tmp_path: Path) -> None:
    """Upper-case names, no help, no types, samples of undeclared types and lenient options are caught."""

    class Lenient(_Options):
        model_config = ConfigDict(extra="ignore", frozen=True)

    for broken, promise in [
        (replace(_BAD, name="Bad"), "lower-case"),
        (replace(_BAD, help=" "), "help"),
        (replace(_BAD, emits=replace(_EMITS, types={})), "types"),
        (replace(_BAD, emits=replace(_EMITS, sample={"id": "1"})), "sample"),
        (replace(_BAD, emits=replace(_EMITS, types={"other": "x"})), "declared"),
        (replace(_BAD, options=Lenient), "unknown options"),
    ]:
        with pytest.raises(ContractBroken, match=promise):
            check_kind(broken, {}, _context(broken, tmp_path))


def test_the_kit_finds_events_that_cannot_be_stored() -> None:
    """Another sensor's name, foreign uids, NUL and undeclared types are caught."""
    good = Event(sensor="bad", id="1", uid="evt_" + "0" * 26, source="/s", type="t.made", received_at=1)
    check_event(_BAD, "bad", good)
    for broken in (
        replace(good, sensor="other"),
        replace(good, uid="1"),
        replace(good, id="a\0"),
        replace(good, id="x" * 3000),
        replace(good, type="u.made"),
        replace(good, source=""),
        replace(good, subject="\ud800"),
        replace(good, attributes={"a": "\0"}),
    ):
        with pytest.raises(ContractBroken):
            check_event(_BAD, "bad", broken)
