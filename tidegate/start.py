"""Runs that people start: by hand, and again after a failure. Group-committed writes like all others.

A run by hand has its own run key scope (`manual/PIPELINE`), so that it never burns a trigger's key. A resumed run is
a new generation of the same key; it keeps the successes of the old one and runs only what did not succeed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.executor import plan_resume, plan_tasks
from pipelines.handed_on import keepable
from pipelines.pipeline import from_json
from pipelines.run import Run, RunState
from sensors.uid import RUN, new_uid
from sensors.w3c import child_of, new_root
from tidegate.deadlines import set_deadlines
from tidegate.rules import RulesInForce
from tidegate.store.tx import Tx
from triggers.ports import LaneName, RunKeyName, RunKeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAsk:
    """A run wanted by a person: typed, checked parameters; `key` None starts one whatever happened before."""

    pipeline: str
    params: Mapping[str, Any] = field(default_factory=dict)
    partition: str | None = None
    key: str | None = None
    uid: str = ""


class UnknownRun(LookupError):
    """There is no such run, or it cannot be resumed; the sentence says which."""


class UnknownPipeline(LookupError):
    """There is no such pipeline in the configuration in force."""


class StartRun:
    """Starts runs by hand. Answers the run, and whether it is new (False: the key was used before).

    A refusal is a value.
    """

    name = "start_run"

    def __init__(self, rules: RulesInForce, mint_root: Callable[[], str] = new_root) -> None:
        self._rules = rules
        self._mint_root = mint_root

    def __call__(self, tx: Tx, items: Sequence[StartAsk]) -> Sequence[tuple[Run, bool] | UnknownPipeline]:
        """Insert the runs of all asks."""
        rules = self._rules.current
        now = tx.now()
        answers: list[tuple[Run, bool] | UnknownPipeline] = []
        for item in items:
            pipeline = rules.pipelines.get(item.pipeline)
            if pipeline is None:
                answers.append(UnknownPipeline(f"there is no pipeline {item.pipeline}"))
                continue
            uid = item.uid or new_uid(RUN, now)
            name = RunKeyName(f"manual/{item.pipeline}", item.pipeline, item.key or uid)
            state = tx.lock_run_keys([name])[name]
            if state.generation and state.last_run is not None:
                found = tx.get_runs([state.last_run]).get(state.last_run)
                if found is not None:
                    answers.append((found, False))
                    continue
            span = self._mint_root()
            run = Run(
                uid=uid,
                pipeline=item.pipeline,
                definition=pipeline.hash,
                state=RunState.QUEUED,
                key=name.key,
                key_scope=name.scope,
                created_at=now,
                generation=state.generation + 1,
                params=item.params,
                partition=item.partition,
                span=span,
                run_span=child_of(span),
                config_hash=rules.config_hash,
            )
            tx.put_definitions({pipeline.hash: pipeline.text})
            tx.insert_runs([run], plan_tasks(pipeline.definition, uid, lambda prefix: new_uid(prefix, now)))
            tx.put_run_keys([RunKeyState(name, run.generation, uid, RunState.QUEUED)])
            if rules.deadlines:
                set_deadlines(tx, rules.deadlines, [run])
            answers.append((run, True))
        return answers


@dataclass(frozen=True, slots=True)
class ResumeAsk:
    """A failed or cancelled run that shall go on where it stopped, with the definition it started with."""

    run: str


class ResumeRun:
    """Opens a new generation of a run that failed or was cancelled. Answers the new run or an UnknownRun."""

    name = "resume_run"

    def __init__(self, rules: RulesInForce | None = None) -> None:
        """`rules` say what deadlines the new run has; without them it has none."""
        self._rules = rules

    def __call__(self, tx: Tx, items: Sequence[ResumeAsk]) -> Sequence[Run | UnknownRun]:
        """Resume all asked runs; a refusal is a value, so that neighbours are not failed by it."""
        return [self._resume(tx, item.run) for item in items]

    def _resume(self, tx: Tx, uid: str) -> Run | UnknownRun:
        now = tx.now()
        old = tx.get_runs([uid]).get(uid)
        if old is None:
            return UnknownRun(f"there is no run {uid}")
        if old.state not in (RunState.FAILED, RunState.CANCELLED):
            return UnknownRun(f"run {uid} is {old.state}; only failed and cancelled runs can be resumed")
        name = RunKeyName(old.key_scope, old.pipeline, old.key)
        state = tx.lock_run_keys([name])[name]
        if old.lane:  # whoever merges into what waits in the lane sees the new run or keeps us waiting
            tx.lock_lanes([LaneName(old.pipeline, old.lane)])
        if state.last_run != uid:
            return UnknownRun(f"run {uid} was followed by {state.last_run}; resume that one")
        definition = tx.get_definition(old.definition)
        if definition is None:
            return UnknownRun(f"the definition of run {uid} is gone")
        new = replace(
            old,
            uid=new_uid(RUN, now),
            state=RunState.QUEUED,
            created_at=now,
            generation=old.generation + 1,
            seq=0,
            holder=None,
            lease_until=None,
            fence=0,
            started_at=None,
            finished_at=None,
            error=None,
            cancel_reason=None,
            run_span=child_of(old.span) if old.span else new_root(),
            resumed_from=uid,
        )
        whole = from_json(definition)
        tasks = plan_resume(whole, keepable(whole, tx.get_tasks(uid)), new.uid, lambda prefix: new_uid(prefix, now))
        tx.insert_runs([new], tasks)
        tx.put_run_keys([RunKeyState(name, new.generation, new.uid, RunState.QUEUED)])
        if self._rules is not None and self._rules.current.deadlines:
            set_deadlines(tx, self._rules.current.deadlines, [new])
        return new
