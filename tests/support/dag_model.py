"""What must become of a pipeline's tasks, told slowly: a plain recursion over needs that knows no time.

Independent of the executor. It holds for pipelines in which every task may fail (`on_failure: continue`): there, the
final state of every task depends on the fates of attempts alone, in whatever order they end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from pipelines.pipeline import PipelineDef
from pipelines.task import Retries, TaskDef

LISTED = ["u", "v", "w"]  # what every task that does not fan out hands on
PARAMS = {"yes": True, "no": False}
Fates = Mapping[str, Sequence[bool]]


@dataclass(frozen=True)
class Case:
    """A pipeline and, by label, whether each attempt of a task run succeeds."""

    definition: PipelineDef
    fates: Fates


@st.composite
def cases(draw: st.DrawFn, *, on_failure: Sequence[str] = ("continue",), most: int = 6) -> Case:
    """A pipeline of up to `most` tasks with rules, conditions, partitions and retries; the fates of its attempts."""
    tasks: list[TaskDef] = []
    for number in range(draw(st.integers(1, most))):
        above = {task.name: task for task in tasks}
        needs = draw(st.lists(st.sampled_from(sorted(above)), unique=True, max_size=3)) if above else []
        upstream = draw(st.sampled_from(["all_success", "all_success", "all_done", "any_success", "2_of"]))
        if upstream == "2_of" and len(needs) < 2:
            upstream = "all_success"
        plain = [need for need in needs if not above[need].fans_out]
        fanned = [need for need in needs if above[need].fans_out]
        ways: list[object] = [None, None, [], ["a"], ["a", "b", "c", "d"]]
        ways += [f"tasks.{need}.output" for need in plain]
        partitions = draw(st.sampled_from(ways))
        per = draw(st.sampled_from([None, *fanned])) if partitions is None and upstream == "all_success" else None
        fans = partitions is not None or per is not None
        tasks.append(
            TaskDef(
                name=f"t{number}",
                engine="e",
                needs=tuple(needs),
                upstream=upstream,
                on_failure=draw(st.sampled_from(on_failure)),
                when=draw(st.sampled_from([None, None, None, "params.yes", "params.no"])),
                partitions=partitions,
                per=per,
                require=draw(st.sampled_from([None, None, 1, 2, 0.5])) if fans else None,
                max_parallel=draw(st.sampled_from([None, 1, 2])) if fans else None,
                pools=draw(st.sampled_from([(), (), ("db",)])),
                retries=Retries(attempts=draw(st.integers(0, 2)), backoff=1.0, max_delay=3.0),
            )
        )
    definition = PipelineDef(name="p", tasks=tuple(draw(st.permutations(tasks))), max_tasks=draw(st.integers(1, 5)))
    fate = st.lists(st.sampled_from([True, True, False]), min_size=3, max_size=3)
    labels = [task.name for task in tasks]
    labels += [f"{task.name}[{name}]" for task in tasks if task.fans_out for name in (*"abcd", *LISTED)]
    return Case(definition, {label: draw(fate) for label in labels})


def expected(case: Case) -> dict[str, str]:  # noqa: C901 - the whole of the rules, in one place on purpose
    """Return the final state of every task run by label."""
    tasks = {task.name: task for task in case.definition.tasks}
    found: dict[str, str] = {}
    slices: dict[str, list[str]] = {}

    def tried(label: str, task: TaskDef) -> str:
        return "succeeded" if any(case.fates[label][: task.retries.attempts + 1]) else "failed"

    def fate(name: str) -> str:
        if name not in found:
            found[name] = _fate(tasks[name])
        return found[name]

    def _fate(task: TaskDef) -> str:
        states = [fate(need) for need in task.needs if not (task.per == need and need in slices)]
        why = _kept_back(task, states)
        if task.per is not None:
            fate(task.per)
            if task.per in slices:
                why = _kept_back(task, [fate(need) for need in task.needs if need != task.per])
        if why:
            return why
        if task.when == "params.no":
            return "skipped"
        if not task.fans_out:
            return tried(task.name, task)
        if task.per is not None:
            names = slices.get(task.per, [])
        elif isinstance(task.partitions, str):
            if fate(task.partitions.split(".")[1]) != "succeeded":
                return "failed"  # null is no list
            names = LISTED
        else:
            names = task.partitions
        if not names:
            return "succeeded"
        slices[task.name] = list(names)
        for one in names:
            label = f"{task.name}[{one}]"
            broken = task.per is not None and found[f"{task.per}[{one}]"] != "succeeded"
            found[label] = "upstream_failed" if broken else tried(label, task)
        good = sum(found[f"{task.name}[{one}]"] == "succeeded" for one in names)
        if good >= _wanted(task, len(names)):
            return "succeeded"
        return "failed" if any(found[f"{task.name}[{one}]"] == "failed" for one in names) else "upstream_failed"

    for name in tasks:
        fate(name)
    return found


def _kept_back(task: TaskDef, states: Sequence[str]) -> str:
    """Say how a task ends that its needs keep from starting; nothing when they do not."""
    if not states or task.upstream == "all_done":
        return ""
    wanted = {"any_success": 1, "2_of": 2}.get(task.upstream, len(states))
    if states.count("succeeded") >= wanted:
        return ""
    return "upstream_failed" if {"failed", "upstream_failed"} & set(states) else "skipped"


def _wanted(task: TaskDef, total: int) -> int:
    if task.require is None:
        return total
    return math.ceil(task.require * total) if isinstance(task.require, float) else min(task.require, total)


def run_succeeds(case: Case, states: Mapping[str, str]) -> bool:
    """Say whether the run succeeds: one task did, or all were left out on purpose."""
    ends = [states[task.name] for task in case.definition.tasks]
    return "succeeded" in ends or set(ends) == {"skipped"}
