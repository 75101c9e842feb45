"""What was stored and what fired, in the order in which it came, in SQL for both databases: for those who go over it
again. Pages go on behind the last row, so each is a snapshot of its own and none is held for long.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sensors.event import Event
from tidegate.store.rows import EVENT_ENVELOPE, event_of, from_json, names
from tidegate.store.session import Session, json_list
from triggers.trigger_event import TriggerEvent

_DATA = "CASE WHEN e.blob = 0 THEN e.data ELSE (SELECT b.data FROM blobs AS b WHERE b.uid = e.uid) END"
_ROWS = f"SELECT {names(EVENT_ENVELOPE, 'e.')}, {_DATA} FROM events AS e"
_PAGE = (
    f"{_ROWS} WHERE e.sensor = ? AND (e.received_at, e.uid) > (?, ?) AND e.received_at < ?"
    " ORDER BY e.received_at, e.uid LIMIT ?"
)
_FIRED = (
    "SELECT t.uid, t.trigger, t.version, t.at, t.pipeline, t.key, t.params, t.partition, t.lane,"
    " (SELECT JSON_ROWS(q.event, q.received_at) FROM (SELECT c.event, e.received_at FROM trigger_causes AS c"
    " LEFT JOIN events AS e ON e.uid = c.event WHERE c.trigger_event = t.uid ORDER BY c.pos) AS q)"
    " FROM trigger_events AS t WHERE t.uid > ? AND t.trigger = ANY(?) ORDER BY t.uid LIMIT ?"
)


class HistoryReader:
    """Queries that go over what there is from the oldest on."""

    _s: Session

    def history(self, sensor: str, after: tuple[int, str], until: int, limit: int) -> Sequence[Sequence[Any]]:
        return self._s.fetch(_PAGE, sensor, *after, until, limit)

    def events_by_uid(self, uids: Sequence[str]) -> Mapping[str, Event]:
        if not uids:
            return {}
        return {row[0]: event_of(row) for row in self._s.fetch(f"{_ROWS} WHERE e.uid = ANY(?)", list(uids))}

    def fired_after(self, triggers: Sequence[str], after: str, limit: int) -> Sequence[tuple[TriggerEvent, int]]:
        return [_fired(row) for row in self._s.select(_FIRED, after, list(triggers), limit)]


def _fired(row: Sequence[Any]) -> tuple[TriggerEvent, int]:
    uid, trigger, version, at, pipeline, key, params, partition, lane, causes = row
    events = json_list(orjson.loads(causes) if isinstance(causes, str) else causes)
    made = TriggerEvent(
        uid=uid,
        trigger=trigger,
        version=version,
        at=at,
        events=tuple(event for event, _ in events),
        pipeline=pipeline,
        key=key,
        params=from_json(params),
        partition=partition,
        lane=lane,
    )
    return made, max((received for _, received in events if received is not None), default=at)
