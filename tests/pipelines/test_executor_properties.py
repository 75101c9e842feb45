"""Random graphs, failures, retries, takeovers and cancellations against the rules told slowly."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.executor import Advance, AttemptOutcome, EngineTraits, Verdict, begin, cancel, plan_tasks, settle, wake
from pipelines.memory_runs import check_transition
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, RunState, TaskRun, TaskState
from sensors.clock import SECOND
from sensors.w3c import child_of
from tests.support.dags import AT, definitions, make_run

TRAITS = {
    "dies": EngineTraits(survives=False, dedupes=False),
    "survives": EngineTraits(survives=True, dedupes=False),
    "dedupes": EngineTraits(survives=False, dedupes=True),
}


class World:
    """One run, stepped by hand; every step is checked against what must always hold."""

    def __init__(self, definition: PipelineDef) -> None:
        numbers = itertools.count()
        self.definition = definition
        self.run: Run = make_run()
        self.at = AT
        planned = plan_tasks(definition, self.run.uid, lambda prefix: f"{prefix}{next(numbers)}")
        self.tasks: dict[str, TaskRun] = {task.task: task for task in planned}
        self.keys: dict[str, tuple[str, int]] = {}
        self.end: RunState | None = None
        self.claim(taken_over=False)

    @property
    def running(self) -> list[str]:
        return sorted(name for name, task in self.tasks.items() if task.state is TaskState.RUNNING)

    def claim(self, *, taken_over: bool) -> None:
        """Claim the run (again), as a dispatcher that finds it does."""
        before = dict(self.tasks)
        changed = begin(
            self.definition,
            self.run,
            list(self.tasks.values()),
            TRAITS,
            self.at,
            taken_over=taken_over,
            mint_span=child_of,
        )
        self.apply(Advance(changed))
        if taken_over and self.run.state is RunState.RUNNING:
            for name, old in before.items():
                if old.state is TaskState.RUNNING:
                    new = self.tasks[name]
                    kept = (new.attempt, new.engine_key, new.lost) == (old.attempt, old.engine_key, old.lost)
                    assert kept == (old.engine != "dies")
                    assert new.failures == old.failures
        self.step()

    def step(self) -> None:
        """Write what time asks for."""
        self.apply(wake(self.definition, self.run, list(self.tasks.values()), self.at, child_of))

    def finish(self, name: str, outcome: AttemptOutcome) -> None:
        """End an attempt."""
        self.at += 1
        self.apply(
            settle(self.definition, self.run, list(self.tasks.values()), outcome, self.at, lambda: 0.5, child_of)
        )
        assert self.tasks[name].state is not TaskState.RUNNING

    def cancel(self) -> None:
        """Ask the run to stop."""
        self.run = replace(self.run, state=RunState.CANCELLING, cancel_reason="enough")
        self.apply(cancel(self.definition, self.run, list(self.tasks.values()), self.at))

    def apply(self, advance: Advance) -> None:
        """Take a step over, after checking it."""
        assert self.end is None or advance.empty or (advance.state is self.end and not advance.tasks)
        for task in advance.tasks:
            old = self.tasks[task.task]
            check_transition(old, task)
            if task.state is TaskState.RUNNING and (old.state is not TaskState.RUNNING or old.attempt != task.attempt):
                self._check_start(task)
            self.tasks[task.task] = task
        for name in advance.starts:
            assert self.tasks[name].state is TaskState.RUNNING
        assert len(self.running) <= max(1, self.definition.max_tasks)
        self.end = self.end or advance.state

    def _check_start(self, task: TaskRun) -> None:
        assert self.run.state is RunState.RUNNING
        definition = self.definition.task(task.task)
        states = [self.tasks[need].state for need in definition.needs]
        assert allowed(definition.upstream, states), (definition, states)
        assert task.engine_key is not None
        assert task.engine_key.startswith("tg-")
        assert self.keys.setdefault(task.engine_key, (task.task, task.attempt)) == (task.task, task.attempt)


def allowed(rule: str, states: list[TaskState]) -> bool:
    """Tell the upstream rules in one line each."""
    if rule == "all_done":
        return all(state.final for state in states)
    if rule == "any_success" and states:
        return TaskState.SUCCEEDED in states
    return all(state is TaskState.SUCCEEDED for state in states)


def outcome_of(task: TaskRun, verdict: Verdict, *, retryable: bool = True) -> AttemptOutcome:
    return AttemptOutcome(
        task=task.task, attempt=task.attempt, verdict=verdict, error="no", retryable=retryable, output='"out"'
    )


def expected_end(definition: PipelineDef, fates: Mapping[str, list[bool]]) -> dict[str, TaskState]:
    """Work the final states out by recursion, for pipelines in which nothing stops the run."""
    found: dict[str, TaskState] = {}

    def fate(name: str) -> TaskState:
        if name not in found:
            task = definition.task(name)
            if not allowed(task.upstream, [fate(need) for need in task.needs]):
                found[name] = TaskState.UPSTREAM_FAILED
            else:
                tries = fates[name][: task.retries.attempts + 1]
                found[name] = TaskState.SUCCEEDED if any(tries) else TaskState.FAILED
        return found[name]

    for task in definition.tasks:
        fate(task.name)
    return found


@settings(max_examples=300, deadline=None)
@given(definitions(on_failure=("continue",)), st.data())
def test_the_end_is_the_one_that_the_rules_tell_whatever_the_order(
    definition: PipelineDef, data: st.DataObject
) -> None:
    """However attempts end, retries wake and holders die, the final states are those of the plain recursion."""
    fates = {task.name: data.draw(st.lists(st.booleans(), min_size=3, max_size=3)) for task in definition.tasks}
    world = World(definition)
    takeovers = 0
    for _ in range(200):
        if world.end is not None:
            break
        doings = [*world.running, "time"] if world.running else ["time"]
        if takeovers < 5:
            doings.append("takeover")
        doing = data.draw(st.sampled_from(doings))
        if doing == "time":
            world.at += 3600 * SECOND
            world.step()
        elif doing == "takeover":
            takeovers += 1
            world.claim(taken_over=True)
        else:
            task = world.tasks[doing]
            verdict = Verdict.SUCCEEDED if fates[doing][task.failures] else Verdict.FAILED
            world.finish(doing, outcome_of(task, verdict))

    assert {name: task.state for name, task in world.tasks.items()} == expected_end(definition, fates)
    assert all(task.lost <= takeovers and task.failures <= 3 for task in world.tasks.values())
    succeeded = any(task.state is TaskState.SUCCEEDED for task in world.tasks.values())
    assert world.end is (RunState.SUCCEEDED if succeeded else RunState.FAILED)


@settings(max_examples=400, deadline=None)
@given(definitions(), st.data())
def test_whatever_happens_the_run_ends_truthfully(definition: PipelineDef, data: st.DataObject) -> None:
    """With failures that stop, takeovers and cancellation: only listed transitions, no early start, a true end."""
    world = World(definition)
    successes: dict[str, TaskRun] = {}
    for _ in range(300):
        if world.end is not None:
            break
        cancelling = world.run.state is RunState.CANCELLING
        doings = [*world.running] * 3 + ["time", "takeover"] + ([] if cancelling else ["cancel"])
        doing = data.draw(st.sampled_from(doings))
        if doing == "time":
            world.at += 3600 * SECOND
            world.step()
        elif doing == "takeover":
            world.claim(taken_over=True)
        elif doing == "cancel":
            world.cancel()
        else:
            verdict = data.draw(
                st.sampled_from([Verdict.SUCCEEDED, Verdict.SUCCEEDED, Verdict.FAILED, Verdict.CANCELLED])
            )
            world.finish(doing, outcome_of(world.tasks[doing], verdict, retryable=data.draw(st.booleans())))
            if verdict is Verdict.SUCCEEDED:
                successes[doing] = world.tasks[doing]
    while world.end is None and world.running:
        world.finish(world.running[0], outcome_of(world.tasks[world.running[0]], Verdict.SUCCEEDED))
    for _ in range(50):
        if world.end is None:
            world.at += 3600 * SECOND
            world.step()
            for name in world.running:
                world.finish(name, outcome_of(world.tasks[name], Verdict.SUCCEEDED))

    for name, task in successes.items():
        assert world.tasks[name] == task
    states = {name: task.state for name, task in world.tasks.items()}
    required = [task.name for task in definition.tasks if task.on_failure == "stop"]
    complete = all(states[name] is TaskState.SUCCEEDED for name in required)
    some = TaskState.SUCCEEDED in states.values()
    assert world.end is not None
    assert all(state.final for state in states.values())
    if world.end is RunState.SUCCEEDED:
        assert complete
        assert some
    elif world.end is RunState.FAILED:
        assert world.run.state is RunState.RUNNING
        assert not (complete and some)
    else:
        assert world.run.state is RunState.CANCELLING
    stopped = any(
        state.final and state not in (TaskState.SUCCEEDED, TaskState.SKIPPED)
        for n, state in states.items()
        if n in required
    )
    assert stopped or TaskState.SKIPPED not in states.values()
