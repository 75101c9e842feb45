"""What is to be done to objects, in the in-memory store: the rules of `sql_actions`, row by row."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.run import Run, RunState
from sensors.batch import ObjectAction
from tidegate.store.memory_state import State
from triggers.ports import RunKeyName


def put(state: State, sensor: str, actions: Sequence[ObjectAction]) -> None:
    """Keep actions that are not there yet."""
    for action in actions:
        state.actions.setdefault(action.uid, (sensor, replace(action, tags=dict(action.tags))))


def drop(state: State, sensor: str, uids: Sequence[str]) -> None:
    """Forget actions of a sensor."""
    for uid in uids:
        if uid in state.actions and state.actions[uid][0] == sensor:
            del state.actions[uid]


def due(state: State, sensor: str, limit: int) -> Sequence[ObjectAction]:
    """Return actions whose time has come, oldest first."""
    mine = sorted((action for owner, action in state.actions.values() if owner == sensor), key=lambda item: item.uid)
    return [action for action in mine if _is_due(state, action)][:limit]


def _is_due(state: State, action: ObjectAction) -> bool:
    if action.when == "now":
        return True
    runs = [run for run in state.runs.values() if action.event in run.events]
    if not runs or action.when == "accepted":
        return bool(runs)
    undecided = any(action.event in row.events and row.outcome.open for row in state.decisions.values())
    return not undecided and all(_made_good(state, run) for run in runs)


def _made_good(state: State, run: Run) -> bool:
    """Say whether a run succeeded, or the latest one of its key."""
    if run.state == RunState.SUCCEEDED:
        return True
    key = state.run_keys.get(RunKeyName(run.key_scope, run.pipeline, run.key))
    if key is None or key.last_run is None:
        return False
    last = state.runs.get(key.last_run)
    return (key.last_state if last is None else last.state) == RunState.SUCCEEDED


def forget_event(state: State, event: str) -> None:
    """Forget the actions of an event that is being forgotten."""
    for uid in [uid for uid, (_, action) in state.actions.items() if action.event == event]:
        del state.actions[uid]


def forget_old(state: State, before: int, limit: int) -> int:
    """Forget old actions that wait for no event."""
    old = [uid for uid, (_, action) in state.actions.items() if not action.event and action.created_at < before]
    for uid in old[:limit]:
        del state.actions[uid]
    return len(old[:limit])
