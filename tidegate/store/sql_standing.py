"""How events and keys stand, in SQL for both databases: which are remembered, and which are not done with."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from pipelines.run import RunState
from tidegate.store.session import Session
from triggers.decision import Outcome
from triggers.round import RoundName

_OPEN = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.open)
_UNDER_WAY = ", ".join(f"'{state}'" for state in RunState if not state.final)


class StandingReader:
    """Queries about how events and keys stand."""

    _s: Session

    def known_events(self, sensor: str, ids: Sequence[str]) -> Mapping[str, str]:
        rows = self._s.select("SELECT id, uid FROM event_ids WHERE sensor = ? AND id = ANY(?)", sensor, list(ids))
        return {row[0]: row[1] for row in rows}

    def unfinished_events(self, events: Sequence[str]) -> AbstractSet[str]:
        if not events:
            return frozenset()
        runs = self._s.select(
            "SELECT DISTINCT e.event FROM run_events AS e JOIN runs AS r ON r.uid = e.run"
            f" WHERE e.event = ANY(?) AND r.state IN ({_UNDER_WAY})",
            list(events),
        )
        decisions = self._s.select(
            "SELECT DISTINCT j.event FROM decision_events AS j JOIN decisions AS d ON d.uid = j.decision"
            f" WHERE j.event = ANY(?) AND d.outcome IN ({_OPEN})",
            list(events),
        )
        return frozenset(row[0] for row in (*runs, *decisions))

    def open_keys(self) -> Mapping[tuple[str, str], int]:
        rows = self._s.select(
            "SELECT trigger, meaning, count(*) FROM rounds WHERE phase = 'open' GROUP BY trigger, meaning"
        )
        return {(trigger, meaning): n for trigger, meaning, n in rows}

    def stale_keys(self, trigger: str, meaning: str, limit: int) -> Sequence[RoundName]:
        rows = self._s.select(
            "SELECT key FROM rounds WHERE trigger = ? AND phase = 'open' AND meaning <> ? ORDER BY key LIMIT ?",
            trigger,
            meaning,
            limit,
        )
        return [RoundName(trigger, key) for (key,) in rows]
