from itertools import pairwise

import pytest

from pipelines.graph import ancestors, check_definition, goes_on, ordered
from pipelines.pipeline import PipelineDef
from pipelines.task import Retries, TaskDef


def pipeline(*tasks: TaskDef) -> PipelineDef:
    return PipelineDef(name="p", tasks=tasks)


def task(name: str, *needs: str, **more: object) -> TaskDef:
    return TaskDef(name=name, engine="e", needs=needs, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("definition", "said", "hint"),
    [
        pytest.param(pipeline(), "has no tasks", "at least one", id="empty"),
        pytest.param(pipeline(task("a"), task("a")), "2 tasks are named 'a'", "name of its own", id="duplicate"),
        pytest.param(pipeline(task("extract"), task("b", "extrct")), "needs 'extrct'", "'extract'", id="unknown-need"),
        pytest.param(pipeline(task("a", "a")), "needs itself", "take that need away", id="self"),
        pytest.param(
            pipeline(task("a", "c"), task("b", "a"), task("c", "b")), " needs ", "take one of these", id="cycle"
        ),
        pytest.param(pipeline(task("a"), task("b", "a", "a")), "names a need twice", "once", id="twice"),
        pytest.param(pipeline(task("a", upstream="all_sucess")), "unknown upstream rule", "'all_success'", id="rule"),
        pytest.param(pipeline(task("a", on_failure="stopp")), "on_failure 'stopp'", "'stop'", id="on-failure"),
        pytest.param(pipeline(task("a", timeout=0.0)), "timeout of 0", "more than 0s", id="timeout"),
        pytest.param(
            pipeline(task("a", retries=Retries(attempts=-1))), "retries that cannot be", "at least 0", id="retries"
        ),
        pytest.param(pipeline(task("a", retries=Retries(jitter=2.0))), "jitter of 2.0", "share", id="jitter"),
        pytest.param(
            PipelineDef(name="p", tasks=(task("a"),), max_tasks=0), "max_tasks is below 1", "1 or more", id="max"
        ),
        pytest.param(
            PipelineDef(name="p", tasks=(task("a"),), concurrency=0), "concurrency is below 1", "1", id="none"
        ),
    ],
)
def test_a_wrong_graph_is_told_with_its_remedy(definition: PipelineDef, said: str, hint: str) -> None:
    """Each mistake gives exactly one finding: where, what, and what would be right."""
    found = check_definition(definition)

    assert len(found) == 1
    assert said in str(found[0])
    assert hint in found[0].hint
    assert found[0].path


def test_a_cycle_is_named_task_by_task() -> None:
    """The sentence walks the circle: each named task needs the next."""
    definition = pipeline(task("a", "c"), task("b", "a"), task("c", "b"), task("d", "a"))
    (found,) = check_definition(definition)
    way = str(found).removeprefix("tasks need each other in a circle: ").split(" needs ")

    assert way[0] == way[-1]
    assert set(way) == {"a", "b", "c"}
    assert all(after in definition.task(before).needs for before, after in pairwise(way))


def test_several_mistakes_are_told_at_once() -> None:
    """One look finds all of them."""
    assert len(check_definition(pipeline(task("a", "x", upstream="no"), task("a", timeout=-1.0)))) == 4


def test_order_ancestors_and_what_goes_on() -> None:
    """Tasks come after their needs; ancestors are all above; `all_done` tasks and followers go on after a stop."""
    definition = pipeline(
        task("c", "b"), task("b", "a", upstream="all_done"), task("a"), task("x", upstream="all_done")
    )
    order = ordered(definition)

    assert [one.name for one in order if one.name != "x"] == ["a", "b", "c"]
    assert ancestors(definition)["c"] == {"a", "b"}
    assert goes_on(order) == {"b", "c"}
