"""The flow control of triggers: what is written becomes plain values."""

import pytest

from config.flow_control import control_of
from tests.config.test_load import PIPELINE, Write, _load, write
from triggers.control import Active, Batch, Control, Debounce, Keep, Over, Sample, Throttle, Window
from triggers.pattern import SECOND

__all__ = ["write"]
SENSORS = "sensors: {crm: {kind: tide, path: ./x, start: now}}\n"


def read(write: Write, text: str) -> Control | None:
    trigger = f"triggers: {{t: {{on: {{sensor: crm}}, {text}, run: {{pipeline: tell, priority: 3}}}}}}\n"
    found = _load(write(SENSORS + PIPELINE + trigger)).triggers["t"]
    assert found.runs[0].priority == 3
    return found.control


def test_everything_at_once_is_read(write: Write) -> None:
    """Each stage has its own key; durations become microseconds, days numbers."""
    text = (
        "sample: {rate: 0.25}, throttle: {rate: 10/1m, by: event.subject, burst: 3, over: hold},"
        ' active: {days: [mon-wed, sun], from: "08:00", until: "18:30", timezone: Europe/Oslo, outside: hold},'
        " batch: {count: 500, bytes: 1MiB, within: 5m, by: event.data.customer}"
    )

    assert read(write, text) == Control(
        sample=Sample(rate=0.25),
        throttle=Throttle(events=10, per=60 * SECOND, burst=3, by="event.subject", over=Over.HOLD),
        active=Active(
            windows=(Window(days=(0, 1, 2, 6), start="08:00", end="18:30"),),
            timezone="Europe/Oslo",
            outside=Over.HOLD,
        ),
        gather=Batch(count=500, bytes=1 << 20, within=300 * SECOND, by="event.data.customer"),
    )


def test_what_is_not_said_has_a_default(write: Write) -> None:
    """A burst of the rate, ten times the quiet time, whole days, all events, and the largest batch."""
    throttle = read(write, "throttle: {rate: 5/s}")
    quiet = read(write, "debounce: {quiet: 30s}")
    latest = read(write, "debounce: {quiet: 1s, max_wait: 5s, keep: latest}")
    batch = read(write, "batch: {within: 1s}")

    assert throttle == Control(throttle=Throttle(events=5, per=SECOND, burst=5))
    assert quiet == Control(gather=Debounce(quiet=30 * SECOND, max_wait=300 * SECOND))
    assert latest == Control(gather=Debounce(quiet=SECOND, max_wait=5 * SECOND, keep=Keep.LATEST))
    assert batch == Control(gather=Batch(within=SECOND, count=5_000, bytes=64 << 20))
    assert control_of(None, None, None, None, None) is None


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri", (0, 1, 2, 3, 4)),
        ("fri-mon", (0, 4, 5, 6)),
        ("[sat, sunday]", (5, 6)),
        ('"mon, wed"', (0, 2)),
        ("Tuesday", (1,)),
    ],
)
def test_days_are_read_as_people_write_them(write: Write, text: str, days: tuple[int, ...]) -> None:
    """Names, ranges also over the weekend, lists, short and long."""
    control = read(write, f"active: {{days: {text}}}")

    assert control is not None
    assert control.active is not None
    assert control.active.windows[0].days == days


def test_windows_may_be_several(write: Write) -> None:
    """Times of days and cron expressions side by side."""
    control = read(write, 'active: {windows: [{from: "22:00", until: "05:00"}, {cron: "0 12 * * 6", for: 2h}]}')

    assert control is not None
    assert control.active == Active(
        windows=(Window(start="22:00", end="05:00"), Window(cron="0 12 * * 6", length=7_200 * SECOND))
    )
