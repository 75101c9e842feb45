"""The port of those who only read: API, CLI, lineage and recovery.

Out flow plain dicts with uid strings, microseconds and decoded JSON, or the stages' own values; each call sees one
snapshot. Lists are newest first and page by an opaque cursor.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from pipelines.run import Run, TaskRun
from sensors.batch import ObjectAction, SeenObject
from sensors.event import Event
from tidegate.store.alert_records import Undelivered
from tidegate.store.records import CursorRow
from tidegate.store.watch_port import WatchReader

Row = Mapping[str, Any]


class Reader(WatchReader, Protocol):
    """Read-only queries for API, CLI, lineage and recovery. Lists are newest first and page by an opaque cursor:
    each returns (rows, next cursor or None). Rows are plain dicts with uid strings, µs ints and decoded JSON."""

    def cursors(self, sensor: str) -> Sequence[CursorRow]:
        """Return a sensor's positions."""
        ...

    def seen(self, sensor: str, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return remembered objects by key."""
        ...

    def seen_after(self, sensor: str, key: str, limit: int, prefix: str) -> Sequence[SeenObject]:
        """Return present objects after `key` in key order (by UTF-8 bytes)."""
        ...

    def seen_range(self, sensor: str, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        """Return objects of any state with `after` < key <= `upto` (None: no end) in key order (by UTF-8 bytes)."""
        ...

    def due_actions(self, sensor: str, limit: int) -> Sequence[ObjectAction]:
        """Return a sensor's actions whose time has come, oldest first; see `sensors.ports.Lookup`."""
        ...

    def open_actions(self, sensor: str, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        """Return a sensor's actions on these keys, oldest first."""
        ...

    def alerts(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        route: str | None = None,
        kind: str | None = None,
        state: str | None = None,
    ) -> tuple[Sequence[Row], str | None]:
        """List alerts, each with its `deliveries`. `state` is `pending`, `sent`, `failed` or `suppressed`."""
        ...

    def undelivered(self) -> Sequence[Undelivered]:
        """Return what could not be delivered so far, by route."""
        ...

    def known_events(self, sensor: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the uids of a sensor's remembered events by their ids."""
        ...

    def unfinished_events(self, events: Sequence[str]) -> AbstractSet[str]:
        """Return which of these events have a run that has not ended, or an open decision."""
        ...

    def event(self, uid: str) -> Event | None:
        """Return one event with its data (from `blobs` if need be)."""
        ...

    def events_of_run(self, run: str, limit: int) -> Sequence[Event]:
        """Return the causing events of a run in order."""
        ...

    def events(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        sensor: str | None = None,
        id: str | None = None,
        type: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> tuple[Sequence[Row], str | None]:
        """List events without data."""
        ...

    def decisions(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        trigger: str | None = None,
        event: str | None = None,
        outcome: str | None = None,
    ) -> tuple[Sequence[Row], str | None]:
        """List decisions."""
        ...

    def held_triggers(self) -> Sequence[str]:
        """Return the names of triggers that hold events (`paused` decisions), sorted."""
        ...

    def runs(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        pipeline: str | None = None,
        state: str | None = None,
        trigger: str | None = None,
        event: str | None = None,
        partition: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> tuple[Sequence[Row], str | None]:
        """List runs."""
        ...

    def run(self, uid: str) -> Run | None:
        """Return one run."""
        ...

    def tasks(self, run: str) -> Sequence[TaskRun]:
        """Return the task runs of a run."""
        ...

    def nodes(self, run: str) -> Sequence[TaskRun]:
        """Return the task runs of a run without the slices that tasks fanned out into."""
        ...

    def slice_counts(self, run: str) -> Mapping[str, Mapping[str, int]]:
        """Return how many slices each task of a run has, by state."""
        ...

    def slices(
        self, run: str, *, limit: int, cursor: str | None = None, task: str | None = None, state: str | None = None
    ) -> tuple[Sequence[TaskRun], str | None]:
        """List the slices of a run, in the order of their elements."""
        ...

    def logs(
        self, run: str, *, after: int = 0, limit: int = 1000, task: str | None = None
    ) -> tuple[Sequence[Row], int]:
        """Return log lines after a position, and the position reached."""
        ...

    def dead_letters(
        self, *, limit: int, cursor: str | None = None, sensor: str | None = None
    ) -> tuple[Sequence[Row], str | None]:
        """List dead letters without payload."""
        ...

    def dead_letter(self, uid: str) -> Row | None:
        """Return one dead letter with its payload."""
        ...

    def datasets(self, *, limit: int, cursor: str | None = None) -> tuple[Sequence[Row], str | None]:
        """List datasets with their last write."""
        ...

    def dataset(self, name: str, namespace: str | None = None) -> Sequence[Row]:
        """Return the datasets of a configured name, or else of an OpenLineage name, with their last writes."""
        ...

    def dataset_writes(
        self, namespace: str, name: str, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Row], str | None]:
        """List what was written to a dataset, and read of it, the newest first."""
        ...

    def lineage(
        self,
        *,
        event: str | None = None,
        run: str | None = None,
        dataset: str | None = None,
        up: bool = True,
        down: bool = True,
        limit: int = 1000,
    ) -> Row:
        """Return the graph around one node: {"nodes": [{kind, uid, …}], "edges": [{from, to, kind}]}.

        Kinds: event, decision, trigger_event, run, task, dataset, stub (a pruned row).
        """
        ...

    def counts(self, kind: str) -> Mapping[tuple[str, str], int]:
        """Return exact counters of a kind, summed over replicas: (name, outcome) -> n."""
        ...

    def queue(self) -> Mapping[str, Mapping[str, int]]:
        """Return runs by pipeline and non-final state, and the age of the oldest queued one (µs) as `oldest`."""
        ...

    def settings(self, prefix: str) -> Mapping[str, str]:
        """Return small named values by prefix."""
        ...

    def definition(self, hash: str) -> str | None:
        """Return a stored definition's text."""
        ...
