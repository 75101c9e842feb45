"""The keys that patterns wait for, in memory: the rules of `sql_rounds`, in the plainest Python."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tidegate.store.memory_state import State
from tidegate.store.records import StoredEvent
from triggers.gather import Waiting
from triggers.round import Occurrence, Phase, Round, RoundName, ordered


class RoundsMemory:
    """Methods of `Tx` about the keys that patterns wait for."""

    state: State

    def lock_rounds(self, wanted: Sequence[RoundName], *, wait: bool = True) -> Mapping[RoundName, Round]:
        rounds = self.state.rounds
        return {name: rounds.get(name, Round(name=name)) for name in wanted if wait or name in rounds}

    def put_rounds(self, rounds: Sequence[Round], before: Mapping[RoundName, Round]) -> None:
        for state in rounds:
            if state.phase is Phase.NEW:
                self.state.rounds.pop(state.name, None)
            else:
                self.state.rounds[state.name] = replace(state, held=ordered(state.held))

    def lock_numbers(self, wanted: Sequence[RoundName], *, wait: bool = True) -> Mapping[RoundName, Round]:
        return {name: replace(state, held=()) for name, state in self.lock_rounds(wanted, wait=wait).items()}

    def push_held(self, held: Sequence[tuple[RoundName, Occurrence]]) -> None:
        joined: dict[RoundName, list[Occurrence]] = {}
        for name, one in held:
            joined.setdefault(name, []).append(one)
        for name, ones in joined.items():
            whole = (*self.state.queues.get(name, ()), *ones)
            self.state.queues[name] = tuple(sorted(whole, key=lambda one: (one.part, one.event)))

    def pull_held(self, name: RoundName, n: int) -> Sequence[Occurrence]:
        queue = self.state.queues.pop(name, ())
        if queue[n:]:
            self.state.queues[name] = queue[n:]
        return queue[:n]

    def put_waiting(self, waiting: Sequence[Waiting]) -> None:
        for one in waiting:
            old = self.state.decisions.get(one.decision.uid)
            events = () if old is None else tuple(event for event in old.events if event not in one.removed)
            self.state.decisions[one.decision.uid] = replace(one.decision, events=(*events, *one.added))

    def get_events(self, uids: Sequence[str]) -> Mapping[str, StoredEvent]:
        return {uid: self.state.events[uid] for uid in uids if uid in self.state.events}

    def get_spans(self, uids: Sequence[str]) -> Mapping[str, str]:
        stored = self.get_events(uids)
        return {uid: one.span for uid, one in stored.items() if one.span is not None}


def prune_rounds(state: State, before: int, limit: int) -> int:
    """Forget keys that are done with and whose time of being remembered has ended."""
    go = [name for name, one in state.rounds.items() if one.phase is not Phase.OPEN and one.due < before][:limit]
    for name in go:
        del state.rounds[name]
    return len(go)


def open_keys(state: State) -> Mapping[tuple[str, str], int]:
    """Count the keys that are waited for by trigger and meaning."""
    found = state.rounds.values()
    return dict(Counter((one.name.trigger, one.meaning) for one in found if one.phase is Phase.OPEN))


def stale_keys(state: State, trigger: str, meaning: str) -> list[RoundName]:
    """Return the keys of a trigger that were opened under another meaning."""
    return sorted(
        name
        for name, one in state.rounds.items()
        if name.trigger == trigger and one.phase is Phase.OPEN and one.meaning != meaning
    )
