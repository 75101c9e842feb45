"""Random flows: a control, the model that says the same, and histories for both."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.flow_model import DAY, STEP, FlowModel
from triggers.control import Active, Batch, Control, Debounce, Keep, Over, Throttle, Window

DAYTIME = ((5, 12), (20, 30), (33, 34))  # seconds after the hour at which histories begin


@dataclass(frozen=True)
class Case:
    """A control, and what it promises."""

    control: Control
    model: FlowModel


@st.composite
def cases(draw: st.DrawFn, hour: int) -> Case:
    """Draw any combination of stages; `hour` is the hour of the day at which histories begin."""
    throttle = active = None
    gather: Batch | Debounce | None = None
    model: dict[str, Any] = {}
    windowed = draw(st.booleans())
    if draw(st.booleans()):
        events, per, burst = draw(st.integers(1, 3)), draw(st.integers(1, 9)) * STEP, draw(st.integers(1, 4))
        by, holds = draw(st.booleans()) and not windowed, draw(st.booleans())
        over = Over.HOLD if holds else Over.DROP
        throttle = Throttle(events=events, per=per, burst=burst, by="event.subject" if by else None, over=over)
        model |= {"rate": (events, per, burst), "rate_by": by, "rate_holds": holds}
    if windowed:
        holds = draw(st.booleans())
        spans = draw(st.lists(st.sampled_from(DAYTIME), min_size=1, unique=True))
        windows = tuple(Window(start=_clock(hour, start), end=_clock(hour, end)) for start, end in spans)
        active = Active(windows=windows, outside=Over.HOLD if holds else Over.DROP)
        start = hour * 3_600 * STEP
        opened = tuple(((start + a * STEP) % DAY, (start + b * STEP) % DAY) for a, b in spans)
        model |= {"open": opened, "open_holds": holds}
    kind = draw(st.sampled_from(["batch", "all", "latest", "none"]))
    if kind == "batch":
        count, most, within = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 12)) * STEP
        gather = Batch(count=count, bytes=most, within=within, by="event.subject")
        model |= {"batch": (count, most, within)}
    elif kind != "none":
        quiet, most = draw(st.integers(1, 8)) * STEP, draw(st.integers(8, 15)) * STEP
        gather = Debounce(quiet=quiet, max_wait=most, by="event.subject", keep=Keep(kind))
        model |= {"quiet": (quiet, most), "latest": kind == "latest"}
    return Case(Control(throttle=throttle, active=active, gather=gather), FlowModel(**model))


def _clock(hour: int, second: int) -> str:
    return f"{hour:02}:00:{second:02}"
