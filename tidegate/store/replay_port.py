"""The parts of the store's ports that are about replays: what steps write, and what selects, lists and shows.

A replay is moved only by who holds its row; its position, its counts and the runs it stands for move together.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from pipelines.run import Run
from tidegate.store.replay_records import Replay, ReplayedRun
from triggers.trigger_event import TriggerEvent


class ReplayTx(Protocol):
    """What `Tx` can do with replays."""

    def insert_replay(self, replay: Replay, most: int) -> Replay | None:
        """Keep a replay unless its request is known; return the one that is kept.

        None, and nothing is kept, when `most` replays have not ended.
        """
        ...

    def lock_replay(self, uid: str) -> Replay | None:
        """Lock and return a replay."""
        ...

    def put_replay(self, replay: Replay) -> None:
        """Write a locked replay; what was asked for stays."""
        ...

    def insert_replayed(self, rows: Sequence[ReplayedRun]) -> None:
        """Keep which runs replay what; refused as a whole when one stands for what has a run already."""
        ...

    def replayed(self, replay: str, causes: Sequence[str]) -> AbstractSet[tuple[str, str, int, int]]:
        """Return the (cause, trigger, rule, item) of these causes that have a run of this replay."""
        ...

    def fired_by_events(self, events: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        """Return the runs that triggers started of each event: the first of each trigger event, none of a replay's."""
        ...

    def fired_as(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[TriggerEvent, Run]]:
        """Return trigger events (without their causes) with the first run of each."""
        ...

    def forgotten_runs(self, events: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the uids of each event's runs that were pruned."""
        ...

    def fired_items(self, trigger_events: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Return the (rule, item) by which trigger events fired, of those whose decision is still kept."""
        ...

    def mark_letters(self, letters: Mapping[str, str]) -> int:
        """Note of dead letters that were tried again what came of them (a uid); return how many there were."""
        ...


class ReplayReader(Protocol):
    """What `Reader` can tell of replays."""

    def replays(
        self, *, limit: int, cursor: str | None = None, state: str | None = None
    ) -> tuple[Sequence[Replay], str | None]:
        """List replays."""
        ...

    def replay(self, uid: str) -> Replay | None:
        """Return one replay."""
        ...

    def due_replays(self, limit: int) -> Sequence[Replay]:
        """Return replays that have not ended, those that are due first."""
        ...

    def replayed_runs(
        self, replay: str, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """List the runs of a replay: what each stands for, what it replays, and its pipeline and state."""
        ...

    def replay_of(self, run: str) -> ReplayedRun | None:
        """Return of which replay a run is, None for one of none."""
        ...

    def received_between(
        self, sensors: Sequence[str], after: tuple[int, str], until: int, limit: int
    ) -> Sequence[tuple[int, str, int]]:
        """Return (received_at, uid, size) of events of some sensors after a place, in order of arrival."""
        ...

    def fired_between(self, trigger: str, after: str, before: str, limit: int) -> tuple[Sequence[str], str]:
        """Look at up to `limit` trigger events between two uids; return those of a trigger that no replay made, and
        the uid that was reached (empty at the end)."""
        ...
