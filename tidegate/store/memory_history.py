"""The in-memory twin of `sql_history`: what was stored and what fired, from the oldest on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sensors.event import Event
from tidegate.store.memory_state import State
from tidegate.store.rows import event_row
from triggers.trigger_event import TriggerEvent

_NEVER_LARGE = 2**62


class MemoryHistory:
    """Queries that go over what there is from the oldest on."""

    _state: State

    def history(self, sensor: str, after: tuple[int, str], until: int, limit: int) -> Sequence[Sequence[Any]]:
        found = sorted(
            (stored.event.received_at, uid)
            for uid, stored in self._state.events.items()
            if stored.event.sensor == sensor and stored.event.received_at < until
        )
        later = [uid for at, uid in found if (at, uid) > after][:limit]
        return [event_row(self._state.events[uid], _NEVER_LARGE) for uid in later]

    def events_by_uid(self, uids: Sequence[str]) -> Mapping[str, Event]:
        return {uid: self._state.events[uid].event for uid in uids if uid in self._state.events}

    def fired_after(self, triggers: Sequence[str], after: str, limit: int) -> Sequence[tuple[TriggerEvent, int]]:
        state = self._state
        found = sorted(uid for uid, row in state.trigger_events.items() if uid > after and row.trigger in triggers)
        return [(state.trigger_events[uid], self._last(state.trigger_events[uid])) for uid in found[:limit]]

    def _last(self, fired: TriggerEvent) -> int:
        events = self._state.events
        return max((events[uid].event.received_at for uid in fired.events if uid in events), default=fired.at)
