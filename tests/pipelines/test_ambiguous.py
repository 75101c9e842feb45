"""What nobody knows the outcome of is repeated under its key; what is known to have failed is not."""

import pytest

from pipelines.executor import AttemptOutcome, EngineTraits, Verdict, begin, plan_tasks, settle, wake
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, RunState, TaskRun, TaskState
from pipelines.task import Retries, TaskDef

DEFINITION = PipelineDef(name="p", tasks=(TaskDef(name="call", engine="http", retries=Retries(attempts=2, jitter=0)),))
RUN = Run(uid="run_1", pipeline="p", definition="d", state=RunState.RUNNING, key="k", created_at=0)


def _retried(kind: str) -> tuple[TaskRun, TaskRun]:
    """Return the task's first attempt and the one after a failure of that kind."""
    tasks = plan_tasks(DEFINITION, RUN.uid, lambda prefix: prefix + "1")
    traits = {"http": EngineTraits(survives=False, dedupes=True)}
    (first,) = begin(DEFINITION, RUN, tasks, traits, 0, taken_over=False, mint_span=str)
    outcome = AttemptOutcome(task="call", attempt=1, verdict=Verdict.FAILED, error="gone", error_kind=kind)
    (waiting,) = settle(DEFINITION, RUN, (first,), outcome, 1, lambda: 0.5, str).tasks
    assert waiting.state is TaskState.RETRY_WAIT
    assert waiting.next_at is not None
    (second,) = wake(DEFINITION, RUN, (waiting,), waiting.next_at, str).tasks
    return first, second


@pytest.mark.parametrize("kind", [pytest.param("error", id="error"), pytest.param("timeout", id="timeout")])
def test_a_known_failure_gets_a_new_key(kind: str) -> None:
    """A definitive failure is followed by a new attempt under a new key."""
    first, second = _retried(kind)

    assert (second.attempt, second.engine_key != first.engine_key) == (2, True)


def test_an_ambiguous_end_keeps_its_key() -> None:
    """After an ambiguous end the next attempt carries the same key, so that a receiver can drop the repeat."""
    first, second = _retried("ambiguous")

    assert (second.attempt, second.engine_key) == (2, first.engine_key)
