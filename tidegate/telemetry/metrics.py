"""Metrics: a small in-process registry; out come snapshots, which `prometheus` and `otlp_metrics` turn into bytes.

Names and units are those of OpenTelemetry. A family has fixed label names; `labels(...)` returns the child for one
set of values, which hot code keeps: an increment is then one addition. A family holds at most `MAX_CHILDREN`
children; further label values share one child whose labels read `_other`, so nothing from outside can make metrics
grow. Uids never enter labels. Counters start at zero with the process.

An increment is a plain `+=` without a call in it, which the interpreter does not interrupt, so threads may share a
child. Callbacks of observed families run on whatever thread takes the snapshot: they read plain attributes and
nothing else.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

MAX_CHILDREN = 1000
OTHER = "_other"

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
RUN_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

Values = tuple[str, ...]
Observe = Callable[[], Mapping[Values, float]]


class Kind(Enum):
    """What a family's numbers mean."""

    COUNTER = "counter"  # only rises
    GAUGE = "gauge"  # rises and falls
    HISTOGRAM = "histogram"


class Counter:
    """A number that only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, n: float = 1) -> None:
        """Add."""
        self.value += n


class Gauge:
    """A number that rises and falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        """Replace."""
        self.value = value

    def inc(self, n: float = 1) -> None:
        """Add; a negative number takes away."""
        self.value += n


class Histogram:
    """Counts of observations up to each bound, with their sum. The last count is of what lies above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


C = TypeVar("C", Counter, Gauge, Histogram)


class Family(Generic[C]):
    """All children of one name. Obtain a child once and keep it where it is used often."""

    def __init__(self, make: Callable[[], C], label_names: Values) -> None:
        self._make: Callable[[], C] = make
        self._label_names = label_names
        self.children: dict[Values, C] = {}

    def labels(self, *values: str) -> C:
        """Return the child for these label values, in the order of the family's label names."""
        child = self.children.get(values)
        if child is not None:
            return child
        if len(values) != len(self._label_names):
            raise ValueError(f"this metric has the labels {self._label_names}, not {len(values)} values")
        if len(self.children) >= MAX_CHILDREN:
            values = (OTHER,) * len(self._label_names)
        return self.children.setdefault(values, self._make())


@dataclass(frozen=True, slots=True)
class Point:
    """One child's numbers: a value, or the counts and sum of a histogram."""

    labels: Values
    value: float = 0.0
    counts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One family at one moment. `unit` is UCUM, as OpenTelemetry writes it (`s`, `By`, `{run}`)."""

    name: str
    help: str
    unit: str
    kind: Kind
    label_names: Values
    points: Sequence[Point]
    bounds: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    help: str
    unit: str
    kind: Kind
    label_names: Values
    points: Callable[[], list[Point]]
    bounds: Sequence[float] = ()


class Metrics:
    """The registry of one process."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.started_ns = time.time_ns()

    def counter(self, name: str, help: str, unit: str = "1", labels: Sequence[str] = ()) -> Family[Counter]:
        """Declare a counter. A name can be declared once."""
        family: Family[Counter] = Family(Counter, tuple(labels))
        points = lambda: [Point(key, child.value) for key, child in tuple(family.children.items())]  # noqa: E731
        self._declare(name, _Entry(help, unit, Kind.COUNTER, tuple(labels), points))
        return family

    def gauge(self, name: str, help: str, unit: str = "1", labels: Sequence[str] = ()) -> Family[Gauge]:
        """Declare a gauge. A name can be declared once."""
        family: Family[Gauge] = Family(Gauge, tuple(labels))
        points = lambda: [Point(key, child.value) for key, child in tuple(family.children.items())]  # noqa: E731
        self._declare(name, _Entry(help, unit, Kind.GAUGE, tuple(labels), points))
        return family

    def histogram(
        self,
        name: str,
        help: str,
        unit: str = "s",
        labels: Sequence[str] = (),
        bounds: Sequence[float] = SECONDS_BUCKETS,
    ) -> Family[Histogram]:
        """Declare a histogram with ascending bucket bounds. A name can be declared once."""
        family: Family[Histogram] = Family(lambda: Histogram(bounds), tuple(labels))
        points = lambda: [  # noqa: E731
            Point(key, child.total, tuple(child.counts)) for key, child in tuple(family.children.items())
        ]
        self._declare(name, _Entry(help, unit, Kind.HISTOGRAM, tuple(labels), points, tuple(bounds)))
        return family

    def observed_counter(self, name: str, help: str, unit: str, labels: Sequence[str], observe: Observe) -> None:
        """Declare a counter whose values are asked for when needed. Declaring it again replaces the callback."""
        self._entries[name] = _Entry(help, unit, Kind.COUNTER, tuple(labels), lambda: _observed(observe))

    def observed_gauge(self, name: str, help: str, unit: str, labels: Sequence[str], observe: Observe) -> None:
        """Declare a gauge whose values are asked for when needed. Declaring it again replaces the callback."""
        self._entries[name] = _Entry(help, unit, Kind.GAUGE, tuple(labels), lambda: _observed(observe))

    def _declare(self, name: str, entry: _Entry) -> None:
        if name in self._entries:
            raise ValueError(f"the metric {name} is declared already; share its family instead")
        self._entries[name] = entry

    def snapshot(self) -> list[Snapshot]:
        """Return all families by name. A callback that fails leaves its family without points."""
        return [
            Snapshot(name, entry.help, entry.unit, entry.kind, entry.label_names, _points(entry), entry.bounds)
            for name, entry in sorted(self._entries.items())
        ]

    def render(self) -> str:
        """Return the Prometheus text of `/metrics`."""
        from tidegate.telemetry.prometheus import render

        return render(self.snapshot())


def _points(entry: _Entry) -> list[Point]:
    try:
        return entry.points()
    except Exception:  # noqa: BLE001 - one broken observation must not hide all other metrics
        return []


def _observed(observe: Observe) -> list[Point]:
    return [Point(labels, float(value)) for labels, value in tuple(observe().items())[:MAX_CHILDREN]]
