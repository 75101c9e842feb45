"""The event side of a transaction, in SQL for both databases: cursors, event ids, events, memories, dead letters."""

from collections.abc import Mapping, Sequence

from sensors.batch import Cursor, DeadLetter, SeenObject
from tidegate.store.records import CursorRow, NewId, StoredEvent
from tidegate.store.rows import EVENT, event_row, to_json
from tidegate.store.session import Session, insert, json_rows

_EVENTS = insert("events", EVENT)
_BLOBS = insert("blobs", "uid:t data:b", "ON CONFLICT (uid) DO NOTHING")
_EVENT_IDS = insert(
    "event_ids",
    "sensor:t id:t uid:t expires_at:i",
    "ON CONFLICT (sensor, id) DO UPDATE SET uid = excluded.uid, expires_at = excluded.expires_at"
    " WHERE event_ids.expires_at <= ?",
)
_CURSORS = insert(
    "cursors",
    "sensor:t shard:t value:t epoch:i updated_at:i",
    "ON CONFLICT (sensor, shard) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
)
_SEEN = insert(
    "seen_objects",
    "sensor:t key:t token:t incarnation:i state:t first_seen:i last_changed:i extra:t",
    "ON CONFLICT (sensor, key) DO UPDATE SET token = excluded.token, incarnation = excluded.incarnation,"
    " state = excluded.state, first_seen = excluded.first_seen, last_changed = excluded.last_changed,"
    " extra = excluded.extra",
)
_DEAD_LETTERS = insert(
    "dead_letters",
    "uid:t sensor:t at:i reason:t detail:t position:t payload:b content_type:t event_uid:t attributes:t",
)


class EventsSql:
    """Methods of `Tx` about events."""

    _s: Session
    _inline: int

    def lock_cursors(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CursorRow]:
        rows = self._s.select(
            "SELECT t.sensor, t.shard, t.value, t.epoch FROM PAIRS(?) AS k JOIN cursors AS t"
            " ON t.sensor = k.a AND t.shard = k.b ORDER BY t.sensor, t.shard FOR UPDATE OF t",
            json_rows(sorted(set(names))),
        )
        return {(row[0], row[1]): CursorRow(*row) for row in rows}

    def put_cursors(self, sensor: str, cursors: Sequence[Cursor]) -> None:
        now = self._s.now()
        last = {cursor.shard: cursor.value for cursor in cursors}
        self._s.bulk(_CURSORS, [(sensor, shard, last[shard], 0, now) for shard in sorted(last)])

    def raise_epoch(self, sensor: str, shard: str) -> CursorRow:
        row = self._s.fetch(
            "INSERT INTO cursors (sensor, shard, value, epoch, updated_at) VALUES (?, ?, '', 1, ?)"
            " ON CONFLICT (sensor, shard) DO UPDATE SET epoch = cursors.epoch + 1"
            " RETURNING sensor, shard, value, epoch",
            sensor,
            shard,
            self._s.now(),
        )[0]
        return CursorRow(*row)

    def new_event_ids(self, ids: Sequence[NewId]) -> Mapping[tuple[str, str], str]:
        first: dict[tuple[str, str], NewId] = {}
        for new in ids:
            first.setdefault((new.sensor, new.id), new)
        if not first:
            return {}
        # Sorted, so that two writers inserting the same ids wait for each other in one order.
        rows = [(sensor, id_, new.uid, new.expires_at) for (sensor, id_), new in sorted(first.items())]
        known = {(row[0], row[1]): row[2] for row in rows}
        if self._s.bulk(_EVENT_IDS, rows, self._s.now()) < len(rows):
            found = self._s.select(
                "SELECT t.sensor, t.id, t.uid FROM PAIRS(?) AS k JOIN event_ids AS t ON t.sensor = k.a AND t.id = k.b",
                json_rows([row[:2] for row in rows]),
            )
            known.update({(sensor, id_): uid for sensor, id_, uid in found})
        return known

    def insert_events(self, events: Sequence[StoredEvent]) -> None:
        inline = self._inline
        blobs = [
            (stored.event.uid, stored.event.data)
            for stored in events
            if stored.event.data is not None and len(stored.event.data) > inline
        ]
        self._s.bulk(_EVENTS, [event_row(stored, inline) for stored in events])
        if blobs:
            self._s.bulk(_BLOBS, blobs)

    def put_seen(self, sensor: str, seen: Sequence[SeenObject], forget: Sequence[str]) -> None:
        if seen:
            last = {item.key: item for item in seen}
            rows = [
                (
                    sensor,
                    item.key,
                    item.token,
                    item.incarnation,
                    item.state,
                    item.first_seen,
                    item.last_changed,
                    item.extra,
                )
                for _, item in sorted(last.items())
            ]
            self._s.bulk(_SEEN, rows)
        if forget:
            self._s.execute("DELETE FROM seen_objects WHERE sensor = ? AND key = ANY(?)", sensor, sorted(set(forget)))

    def insert_dead_letters(self, letters: Sequence[tuple[str, str, int, DeadLetter]]) -> None:
        rows = [
            (
                uid,
                sensor,
                at,
                letter.reason,
                letter.detail,
                letter.position,
                letter.payload,
                letter.content_type,
                letter.event_uid,
                to_json(letter.attributes),
            )
            for uid, sensor, at, letter in letters
        ]
        self._s.bulk(_DEAD_LETTERS, rows)

    def drop_dead_letters(self, uids: Sequence[str]) -> int:
        gone = sorted(set(uids))
        self._s.execute("DELETE FROM retried_letters WHERE letter = ANY(?)", gone)
        return self._s.execute("DELETE FROM dead_letters WHERE uid = ANY(?)", gone)
