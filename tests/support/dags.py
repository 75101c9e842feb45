"""Random pipelines and the runs over them, for property tests."""

from collections.abc import Sequence

from hypothesis import strategies as st

from pipelines.pipeline import PipelineDef
from pipelines.run import Run, RunState
from pipelines.task import Retries, TaskDef
from sensors.w3c import new_root

RULES = ("all_success", "all_done", "any_success")
AT = 1_000_000


@st.composite
def definitions(draw: st.DrawFn, *, on_failure: Sequence[str] = ("stop", "continue"), most: int = 6) -> PipelineDef:
    """A pipeline of up to `most` tasks in any order, each needing some of those before it."""
    count = draw(st.integers(1, most))
    tasks = []
    for i in range(count):
        needs = draw(st.lists(st.sampled_from([f"t{j}" for j in range(i)]), unique=True, max_size=3)) if i else []
        tasks.append(
            TaskDef(
                name=f"t{i}",
                engine=draw(st.sampled_from(["dies", "survives", "dedupes"])),
                needs=tuple(needs),
                upstream=draw(st.sampled_from(RULES)),
                on_failure=draw(st.sampled_from(on_failure)),
                retries=Retries(attempts=draw(st.integers(0, 2)), backoff=1.0, jitter=0.0),
            )
        )
    return PipelineDef(name="p", tasks=tuple(draw(st.permutations(tasks))), max_tasks=draw(st.integers(1, 4)))


def make_run(state: RunState = RunState.RUNNING) -> Run:
    """Build a claimed run."""
    return Run(uid="run_1", pipeline="p", definition="d", state=state, key="k", created_at=AT, run_span=new_root())
