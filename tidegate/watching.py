"""What the rules in force say of time: which datasets must be fresh, and by when runs must start and end. Pure.

In flow the configuration; out flow plain values that transactions look up by name. A configuration without `freshness`
and `deadlines` yields two empty maps, and costs nothing afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from config.model import ServiceConfig
from pipelines.datasets.definition import DatasetDef
from pipelines.datasets.target import parse_target
from pipelines.freshness import Rule
from tidegate.store.watch_port import DatasetName

FRESHNESS = "freshness"  # the kind of the timers of datasets
_MOST = 900.0  # seconds between probes, by default
_LEAST = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedDataset:
    """One dataset that must be fresh. `names` are those under which writes of it are recorded.

    `probe` None: its writes tell. `every` is seconds between probes.
    """

    name: str
    uri: str
    rule: Rule
    names: tuple[DatasetName, ...] = ()
    probe: str | None = None
    connection: str | None = None
    every: float = _MOST

    @property
    def namespace(self) -> str:
        """Return the OpenLineage namespace, empty where it is not known."""
        return self.names[0][0] if self.names else ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """All watched datasets by name, and which of them a write makes fresh."""

    datasets: Mapping[str, WatchedDataset] = field(default_factory=dict)
    written: Mapping[DatasetName, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.datasets)


def compile_freshness(config: ServiceConfig) -> Freshness:
    """Return what is watched of the datasets of a checked configuration."""
    datasets: dict[str, WatchedDataset] = {}
    written: dict[DatasetName, tuple[str, ...]] = {}
    for name, dataset in config.datasets.items():
        if dataset.freshness is None:
            continue
        watched = datasets[name] = _watched(dataset, config)
        for one in watched.names:
            written[one] = (*written.get(one, ()), name)
    return Freshness(datasets, written)


def _watched(dataset: DatasetDef, config: ServiceConfig) -> WatchedDataset:
    wanted = dataset.freshness
    assert wanted is not None  # noqa: S101 - asked for by the caller
    rule = Rule(
        max_age=wanted.max_age,
        due=wanted.due,
        timezone=wanted.timezone,
        grace=wanted.grace,
        window=wanted.window,
    )
    usual = _MOST if wanted.max_age is None else min(_MOST, max(_LEAST, wanted.max_age / 10))
    return WatchedDataset(
        name=dataset.name,
        uri=dataset.uri,
        rule=rule,
        names=recorded_names(dataset, config),
        probe=wanted.probe,
        connection=dataset.connection,
        every=wanted.every or usual,
    )


def recorded_names(dataset: DatasetDef, config: ServiceConfig) -> tuple[DatasetName, ...]:
    """Return the OpenLineage names under which writes of a configured dataset are recorded."""
    try:
        target: Any = parse_target(dataset.uri, config.base)
    except ValueError:  # nothing here writes it
        return ()
    return ((target.namespace, target.name),)
