"""Drawn pipelines under the real dispatcher, disturbed in every way, against the model of their ends."""

import asyncio
import os

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.executor import plan_resume
from pipelines.run import RunState
from tests.support.dag_model import PARAMS, Case, cases, expected, run_succeeds
from tests.support.dag_world import World, disturb

EXAMPLES = int(os.environ.get("TIDEGATE_DAG_EXAMPLES", "25"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # to make an example smaller would take minutes
)

disturbances = st.lists(st.sampled_from(["time", "time", "kill", "away", "back", "second"]), max_size=12)
pauses = st.lists(st.sampled_from([0.0, 0.5, 20.0]), min_size=1, max_size=5)


@SETTINGS
@given(cases(), disturbances, pauses, st.booleans())
def test_every_task_ends_as_the_model_says(case: Case, doings: list[str], slow: list[float], survives: bool) -> None:
    """Whatever dies or goes away meanwhile: final states, the run's end and the slices are those of the recursion."""

    async def play() -> None:
        world = World(case, survives=survives, pauses=slow)
        try:
            await disturb(world, doings)
            await world.to_the_end()
        finally:
            await world.close()
        states = {label: str(task.state) for label, task in world.stored.items()}
        model = expected(case)
        assert states == model
        assert world.state is (RunState.SUCCEEDED if run_succeeds(case, model) else RunState.FAILED)

    asyncio.run(play())


@SETTINGS
@given(cases(on_failure=("stop", "continue")), disturbances, pauses, st.integers(0, 12))
def test_a_run_that_stops_or_is_cancelled_ends_truthfully_and_resumes(
    case: Case, doings: list[str], slow: list[float], cancel_after: int
) -> None:
    """Every task is final, nothing started too early or twice; resumed with better luck, only the rest runs again."""

    async def play() -> None:
        world = World(case, pauses=slow)
        try:
            await disturb(world, doings[:cancel_after])
            if cancel_after < len(doings):
                world.bench.store.request_cancel(world.run.uid, "drawn")
            await disturb(world, doings[cancel_after:])
            await world.to_the_end()
        finally:
            await world.close()
        assert all(task.state.final for task in world.stored.values())
        required = [task.name for task in case.definition.tasks if task.on_failure == "stop"]
        broken = [name for name in required if str(world.stored[name].state) not in ("succeeded", "skipped")]
        if world.state is RunState.SUCCEEDED:
            assert not broken
        await _resumed(world)

    async def _resumed(before: World) -> None:
        lucky = Case(case.definition, {label: [True] * 3 for label in case.fates})
        world = World(lucky)
        kept_ends = {label for label, task in before.stored.items() if task.partition and task.state.final}
        kept = {label for label, task in before.stored.items() if str(task.state) == "succeeded"}
        world.run = world.bench.add(
            definition=case.definition,
            params=PARAMS,
            tasks=lambda uid, make: plan_resume(case.definition, before.stored.values(), uid, make),
        )
        world.stored = dict(world.bench.store.tasks(world.run.uid))
        world.bench.store.request_cancel(next(iter(world.bench.store.runs)), "only the resumed one")
        try:
            world.hire()
            await world.to_the_end()
        finally:
            await world.close()
        again = {label for label, _ in world.effects}
        assert not again & kept
        assert not [label for label, task in world.stored.items() if task.error == "drawn" and label not in kept_ends]

    asyncio.run(play())
