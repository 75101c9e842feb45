"""Small writes about replays: start one, end one, give one back. Group-committed like all others.

A request is idempotent: its id names one replay for as long as that is kept. A second request with the same id answers
the first one's replay if it asks for the same, and is refused if it asks for something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidegate.store.replay_records import Replay, ReplayState
from tidegate.store.tx import Tx

MOST_ACTIVE = 100


class ReplayRefused(LookupError):
    """A replay cannot be started; the sentence says why."""


class StartReplay:
    """Keeps new replays. Answers the replay and whether it is new; a refusal is a value."""

    name = "start_replay"

    def __call__(self, tx: Tx, items: Sequence[Replay]) -> Sequence[tuple[Replay, bool] | ReplayRefused]:
        """Keep the replays of all asks."""
        now = tx.now()
        return [self._start(tx, replace(item, created_at=now)) for item in items]

    def _start(self, tx: Tx, asked: Replay) -> tuple[Replay, bool] | ReplayRefused:
        kept = tx.insert_replay(asked, MOST_ACTIVE)
        if kept is None:
            return ReplayRefused(f"{MOST_ACTIVE} replays are under way already; wait for one, or cancel one")
        if kept.uid != asked.uid:
            if kept.spec != asked.spec:
                return ReplayRefused(
                    f"request {asked.request_id} was made before and asked for something else: it is replay {kept.uid}"
                )
            return kept, False
        return kept, True


@dataclass(frozen=True, slots=True)
class EndAsk:
    """A replay that shall go no further."""

    replay: str
    state: ReplayState
    reason: str


class EndReplay:
    """Ends replays: what they started goes on. Answers each as it stood before, None where there is none."""

    name = "end_replay"

    def __call__(self, tx: Tx, items: Sequence[EndAsk]) -> Sequence[Replay | None]:
        """End those that have not ended."""
        answers = []
        now = tx.now()
        for item in items:
            replay = tx.lock_replay(item.replay)
            if replay is not None and not replay.state.final:
                ended = replace(replay, state=item.state, reason=item.reason, finished_at=now, holder="", lease_until=0)
                tx.put_replay(ended)
            answers.append(replay)
        return answers


@dataclass(frozen=True, slots=True)
class GiveBackAsk:
    """A holder that stops, and what it worked at."""

    holder: str
    replays: Sequence[str]


class GiveBackReplays:
    """Lets others go on at once with what a holder worked at."""

    name = "give_back_replays"

    def __call__(self, tx: Tx, items: Sequence[GiveBackAsk]) -> Sequence[None]:
        """Give back."""
        for item in items:
            for uid in sorted(item.replays):
                replay = tx.lock_replay(uid)
                if replay is not None and replay.holder == item.holder:
                    tx.put_replay(replace(replay, holder="", lease_until=0))
        return [None] * len(items)
