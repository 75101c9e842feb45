"""The keys that patterns wait for, in SQL for both databases: one row per key, one per event that it holds.

A row is made before it is locked, and locked before it is read, so that of two replicas to which parts of one key come
at once the second sees what the first one wrote. Rows that turn out not to be needed go in the same transaction.
"""

from collections.abc import Mapping, Sequence

from tidegate.store.records import StoredEvent
from tidegate.store.rows import DECISION, EVENT_ENVELOPE, decision_row, names, stored_of
from tidegate.store.session import Session, insert, json_rows
from triggers.gather import Waiting
from triggers.round import Occurrence, Phase, Round, RoundName

ROUND = "trigger:t key:t phase:t uid:t meaning:t version:t since:i due:i taken:i counted:i as_of:i"
_TRIES = 10  # a row that another transaction deletes between making and locking it is made again

_ABSENT = insert("rounds", ROUND, "ON CONFLICT (trigger, key) DO NOTHING")
_ROUNDS = insert(
    "rounds",
    ROUND,
    "ON CONFLICT (trigger, key) DO UPDATE SET phase = excluded.phase, uid = excluded.uid, meaning = excluded.meaning,"
    " version = excluded.version, since = excluded.since, due = excluded.due, taken = excluded.taken,"
    " counted = excluded.counted, as_of = excluded.as_of",
)
_HELD = insert("round_events", "trigger:t key:t part:t event:t at:i depth:i")
_WAITING = insert(
    "decisions",
    DECISION,
    "ON CONFLICT (uid) DO UPDATE SET at = excluded.at, reason = excluded.reason, details = excluded.details",
)
_WAITING_EVENTS = insert("decision_events", "decision:t pos:i event:t")
_NAMES = names(ROUND, "t.")


class RoundsSql:
    """Methods of `Tx` about the keys that patterns wait for."""

    _s: Session

    def lock_rounds(self, wanted: Sequence[RoundName], *, wait: bool = True) -> Mapping[RoundName, Round]:
        ask = sorted(set(wanted))
        if not ask:
            return {}
        text = json_rows([[name.trigger, name.key] for name in ask])
        found = self._locked(ask, text, wait=wait)
        if not found:
            return {}
        held: dict[RoundName, list[Occurrence]] = {}
        for trigger, key, part, event, at, depth in self._s.select(
            "SELECT t.trigger, t.key, t.part, t.event, t.at, t.depth FROM PAIRS(?) AS k JOIN round_events AS t"
            " ON t.trigger = k.a AND t.key = k.b ORDER BY t.trigger, t.key, t.at, t.event, t.part",
            text,
        ):
            held.setdefault(RoundName(trigger, key), []).append(Occurrence(part=part, event=event, at=at, depth=depth))
        return {name: _round(row, held.get(name, ())) for name, row in found.items()}

    def lock_numbers(self, wanted: Sequence[RoundName], *, wait: bool = True) -> Mapping[RoundName, Round]:
        ask = sorted(set(wanted))
        if not ask:
            return {}
        found = self._locked(ask, json_rows([[name.trigger, name.key] for name in ask]), wait=wait)
        return {name: _round(row, ()) for name, row in found.items()}

    def push_held(self, held: Sequence[tuple[RoundName, Occurrence]]) -> None:
        self._s.bulk(_HELD, [_held_row(name, one) for name, one in held])

    def pull_held(self, name: RoundName, n: int) -> Sequence[Occurrence]:
        rows = self._s.select(
            "SELECT part, event, at, depth FROM round_events WHERE trigger = ? AND key = ?"
            " ORDER BY part, event LIMIT ?",
            name.trigger,
            name.key,
            n,
        )
        if rows:
            last = rows[-1]
            self._s.execute(
                "DELETE FROM round_events WHERE trigger = ? AND key = ? AND (part < ? OR (part = ? AND event <= ?))",
                name.trigger,
                name.key,
                last[0],
                last[0],
                last[1],
            )
        return [Occurrence(part=part, event=event, at=at, depth=depth) for part, event, at, depth in rows]

    def _locked(self, ask: list[RoundName], text: str, *, wait: bool) -> dict[RoundName, Sequence[object]]:
        """Return the rows, locked, those that were not there yet among them."""
        lock = " FOR UPDATE OF t" + ("" if wait else " SKIP LOCKED")
        absent = {name: _row(Round(name=name)) for name in ask}
        for _ in range(_TRIES):
            if self._s.locks and wait:
                self._s.bulk(_ABSENT, list(absent.values()))
            rows = self._s.select(
                f"SELECT {_NAMES} FROM PAIRS(?) AS k JOIN rounds AS t ON t.trigger = k.a AND t.key = k.b"
                f" ORDER BY t.trigger, t.key{lock}",
                text,
            )
            found: dict[RoundName, Sequence[object]] = {RoundName(row[0], row[1]): row for row in rows}
            if not wait:
                return found
            if not self._s.locks:
                return {**absent, **found}
            if len(found) == len(ask):
                return found
        raise RuntimeError("rows of join keys vanish as soon as they are made")

    def put_rounds(self, rounds: Sequence[Round], before: Mapping[RoundName, Round]) -> None:
        gone = [state.name for state in rounds if state.phase is Phase.NEW]
        kept = sorted((state for state in rounds if state.phase is not Phase.NEW), key=lambda state: state.name)
        self._s.bulk(_ROUNDS, [_row(state) for state in kept])
        new, emptied, taken = _differences(rounds, before)
        if emptied:
            self._s.execute(
                "DELETE FROM round_events WHERE (trigger, key) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)",
                json_rows(emptied),
            )
        if taken:
            self._s.execute(
                "DELETE FROM round_events WHERE (trigger, key, event) IN (SELECT k.a, k.b, k.c FROM TRIPLES(?) AS k)",
                json_rows(taken),
            )
        self._s.bulk(_HELD, new)
        if gone:
            self._s.execute(
                "DELETE FROM rounds WHERE (trigger, key) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)",
                json_rows(sorted([name.trigger, name.key] for name in gone)),
            )

    def put_waiting(self, waiting: Sequence[Waiting]) -> None:
        self._s.bulk(_WAITING, [decision_row(one.decision) for one in waiting])
        removed = sorted([one.decision.uid, event] for one in waiting for event in one.removed)
        if removed:
            self._s.execute(
                "DELETE FROM decision_events WHERE (decision, event) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)",
                json_rows(removed),
            )
        self._s.bulk(
            _WAITING_EVENTS,
            [(one.decision.uid, one.first + n, event) for one in waiting for n, event in enumerate(one.added)],
        )

    def get_events(self, uids: Sequence[str]) -> Mapping[str, StoredEvent]:
        rows = self._s.fetch(
            f"SELECT {names(EVENT_ENVELOPE, 'e.')}, coalesce(e.data, b.data) FROM events AS e"
            " LEFT JOIN blobs AS b ON b.uid = e.uid WHERE e.uid = ANY(?)",
            sorted(set(uids)),
        )
        return {row[0]: stored_of(row) for row in rows}

    def get_spans(self, uids: Sequence[str]) -> Mapping[str, str]:
        rows = self._s.select("SELECT uid, span FROM events WHERE uid = ANY(?) AND span IS NOT NULL", sorted(set(uids)))
        return {row[0]: row[1] for row in rows}


def prune_rounds(session: Session, before: int, limit: int) -> int:
    """Forget keys that are done with and whose time of being remembered has ended."""
    rows = session.select(
        "SELECT trigger, key FROM rounds WHERE phase <> 'open' AND due < ? ORDER BY due LIMIT ? FOR UPDATE SKIP LOCKED",
        before,
        limit,
    )
    if rows:
        text = json_rows(rows)
        session.execute("DELETE FROM round_events WHERE (trigger, key) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)", text)
        session.execute("DELETE FROM rounds WHERE (trigger, key) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)", text)
    return len(rows)


def _differences(
    rounds: Sequence[Round], before: Mapping[RoundName, Round]
) -> tuple[list[tuple[object, ...]], list[list[str]], list[list[str]]]:
    """Return rows to add, keys that hold nothing of what they held any more, and events to take from the others."""
    new: list[tuple[object, ...]] = []
    emptied: list[list[str]] = []
    taken: list[list[str]] = []
    for state in rounds:
        name, was, held = state.name, before[state.name].held, set(state.held)
        gone = {one.event for one in was if one not in held}
        stays = {one for one in was if one in held and one.event not in gone}
        if gone and not stays:
            emptied.append([name.trigger, name.key])
        else:
            taken += [[name.trigger, name.key, event] for event in gone]
        new += [_held_row(name, one) for one in state.held if one not in stays]
    return sorted(new), sorted(emptied), sorted(taken)


def _row(state: Round) -> tuple[object, ...]:
    return (
        state.name.trigger,
        state.name.key,
        str(state.phase),
        state.uid,
        state.meaning,
        state.version,
        state.since,
        state.due,
        state.taken,
        state.counted,
        state.as_of,
    )


def _held_row(name: RoundName, one: Occurrence) -> tuple[object, ...]:
    return (name.trigger, name.key, one.part, one.event, one.at, one.depth)


def _round(row: Sequence[object], held: Sequence[Occurrence]) -> Round:
    trigger, key, phase, uid, meaning, version, since, due, taken, counted, as_of = row
    return Round(
        name=RoundName(str(trigger), str(key)),
        phase=Phase(str(phase)),
        uid=str(uid),
        meaning=str(meaning),
        version=str(version),
        since=int(since),  # type: ignore[call-overload]
        due=int(due),  # type: ignore[call-overload]
        taken=int(taken),  # type: ignore[call-overload]
        counted=int(counted),  # type: ignore[call-overload]
        as_of=int(as_of),  # type: ignore[call-overload]
        held=tuple(held),
    )
