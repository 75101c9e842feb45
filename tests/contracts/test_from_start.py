"""A source read once more from a moment on: it shows history, whatever the sensor has read, and moves nothing."""

from pathlib import Path

import pytest

from sensors.adapters.kafka_options import KafkaOptions
from sensors.from_start import NothingKnown, started_at
from sensors.kind import SensorContext, SensorKind
from sensors.peeking import peek
from sensors.registry import builtin_kinds
from sensors.sensor import Sensor
from sensors.testing import EverythingWanted, FakeInbox
from sensors.units import StartAt
from tests.contracts.sensor_cases import CASES
from tests.support.clocks import HurriedClock
from triggers.template import compile_function, compile_values

KINDS = [pytest.param(kind, id=kind.name) for kind in builtin_kinds() if kind.name in ("files", "kafka", "s3")]
LATER = 4_000_000_000_000_000


def _build(kind: SensorKind, folder: Path, since: int | None = None) -> Sensor:
    context = SensorContext(kind.name, "svc", HurriedClock(), folder, compile=compile_function, template=compile_values)
    options = kind.options.model_validate(CASES[kind.name].options(folder))
    return kind.build(options if since is None else started_at(options, since), context)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS)
async def test_history_is_shown_again_and_nothing_moves(
    kind: SensorKind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Everything since the moment, also what was read and made durable already; positions stay where they are."""
    case = CASES[kind.name]
    if case.place is not None:
        request.getfixturevalue(case.place)
    assert case.stimulate is not None
    await case.stimulate(tmp_path)
    inbox = FakeInbox()
    sensor = _build(kind, tmp_path)
    await sensor.connect({}, inbox.lookup(kind.name), EverythingWanted())
    while not inbox.events:
        batch = await sensor.read()
        if not batch.empty:
            await inbox.put(kind.name, batch)
        await batch.ack()
    await sensor.close()
    cursors, batches = await inbox.cursors(kind.name), len(inbox.batches)
    shown = [await peek(_build(kind, tmp_path, 0), {}, NothingKnown(), 5, HurriedClock()) for _ in range(2)]
    later = await peek(_build(kind, tmp_path, LATER), {}, NothingKnown(), 5, HurriedClock())

    assert inbox.events[0].id in [event.id for event in shown[0].events]
    assert [event.id for event in shown[0].events] == [event.id for event in shown[1].events]
    assert [event for event in later.events if event.time is not None and event.time >= LATER] == []
    assert (await inbox.cursors(kind.name), len(inbox.batches)) == (cursors, batches)


def test_a_source_that_cannot_tell_ages_starts_at_its_beginning() -> None:
    """An API without `high` has no moments; others start where they are told; what has no history stays as it is."""
    kinds = {kind.name: kind for kind in builtin_kinds()}
    api = kinds["http"].options.model_validate(
        {"url": "https://x.example/items", "every": "1m", "start": "now", "items": "body", "id": "item.id"}
    )
    log = KafkaOptions.model_validate({"brokers": ["b:9092"], "topics": ["t"], "start": "now"})
    hook = kinds["webhook"].options.model_validate({"path": "/x", "verify": {"scheme": "bearer", "secret": "s"}})

    assert started_at(api, 5).start == StartAt("beginning")  # type: ignore[attr-defined]
    assert started_at(log, 5).start == StartAt("time", at=5)  # type: ignore[attr-defined]
    assert started_at(hook, 5) == hook
