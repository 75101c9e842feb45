"""The shape of a pipeline: is it sound, in which order can its tasks go, who stands above whom.

In flows a PipelineDef, out flow plain answers; nothing is kept. Orders are topological and, where the graph leaves a
choice, follow the definition's own order, so that equal definitions behave equally.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter

from pipelines.errors import DefinitionError
from pipelines.pipeline import PipelineDef
from pipelines.task import TaskDef
from pipelines.task_checks import check_conditions, check_fan_out, check_retry_words
from pipelines.upstream import RULES, at_least

ON_FAILURE = ("stop", "continue")


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint that names the nearest known name, or lists what there is."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are: {', '.join(sorted(known)[:20])}" if known else "there are none"


def check_definition(pipeline: PipelineDef) -> list[DefinitionError]:
    """Return everything that is wrong with a pipeline's graph, each with the path of its place and a remedy.

    Empty pipelines, duplicate names, unknown needs, self-needs, cycles (named task by task), unknown rules, and bounds
    that could never be met. The options of the tasks are their engines' business.
    """
    found: list[DefinitionError] = []
    if not pipeline.tasks:
        found.append(DefinitionError(f"pipeline {pipeline.name!r} has no tasks", "tasks", "give it at least one task"))
    names = [task.name for task in pipeline.tasks]
    known = set(names)
    tasks = {task.name: task for task in pipeline.tasks}
    found.extend(
        DefinitionError(f"{count} tasks are named {name!r}", f"tasks.{name}", "give each task a name of its own")
        for name, count in Counter(names).items()
        if count > 1
    )
    for task in pipeline.tasks:
        found.extend(_check_task(task, tasks))
    if pipeline.max_tasks < 1:
        found.append(DefinitionError("max_tasks is below 1: no task could ever start", "max_tasks", "use 1 or more"))
    if pipeline.concurrency < 1:
        found.append(DefinitionError("concurrency is below 1: no run could ever start", "concurrency", "use 1 or more"))
    graph = {task.name: [need for need in task.needs if need in known and need != task.name] for task in pipeline.tasks}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        way = list(reversed(error.args[1]))
        found.append(
            DefinitionError(
                f"tasks need each other in a circle: {' needs '.join(way)}",
                f"tasks.{way[0]}.needs",
                "take one of these needs away",
            )
        )
        return found
    if not found and any(task.when or task.fans_out for task in pipeline.tasks):
        above = ancestors(pipeline)
        for task in pipeline.tasks:
            found.extend(check_conditions(task, tasks, above[task.name]))
    return found


def _check_task(task: TaskDef, tasks: Mapping[str, TaskDef]) -> list[DefinitionError]:
    """Return what is wrong with one task's place in the graph."""
    known = set(tasks)
    found: list[DefinitionError] = []
    where = f"tasks.{task.name}"
    for need in task.needs:
        if need == task.name:
            found.append(DefinitionError(f"task {task.name!r} needs itself", f"{where}.needs", "take that need away"))
        elif need not in known:
            hint = nearest(need, sorted(known - {task.name}))
            found.append(
                DefinitionError(f"task {task.name!r} needs {need!r}, which is not a task", f"{where}.needs", hint)
            )
    if len(set(task.needs)) != len(task.needs):
        found.append(DefinitionError(f"task {task.name!r} names a need twice", f"{where}.needs", "name each need once"))
    enough = at_least(task.upstream)
    if enough is None and task.upstream not in RULES[:-1]:
        message = f"task {task.name!r} has the unknown upstream rule {task.upstream!r}"
        found.append(DefinitionError(message, f"{where}.upstream", nearest(task.upstream, RULES)))
    elif enough is not None and enough > len(task.needs):
        message = f"task {task.name!r} wants {enough} of its {len(task.needs)} needs to succeed, which cannot be"
        found.append(DefinitionError(message, f"{where}.upstream", f"use at most {len(task.needs)}_of"))
    if task.on_failure not in ON_FAILURE:
        message = f"task {task.name!r} has on_failure {task.on_failure!r}"
        found.append(DefinitionError(message, f"{where}.on_failure", nearest(task.on_failure, ON_FAILURE)))
    if not task.timeout > 0:
        found.append(
            DefinitionError(
                f"task {task.name!r} has a timeout of {task.timeout}", f"{where}.timeout", "use more than 0s"
            )
        )
    retries = task.retries
    if retries.attempts < 0 or retries.backoff < 0 or retries.factor < 1 or retries.max_delay < 0:
        found.append(
            DefinitionError(
                f"task {task.name!r} has retries that cannot be: {retries}",
                f"{where}.retries",
                "attempts, backoff and max_delay are at least 0, factor at least 1",
            )
        )
    if not 0 <= retries.jitter <= 1:
        found.append(
            DefinitionError(
                f"task {task.name!r} has a jitter of {retries.jitter}",
                f"{where}.retries.jitter",
                "it is a share of the delay, from 0 to 1",
            )
        )
    return [*found, *check_fan_out(task, tasks), *check_retry_words(task)]


def ordered(definition: PipelineDef) -> Sequence[TaskDef]:
    """Return the tasks, needs before those that need them. Raises DefinitionError for a graph that has no order."""
    seen: set[str] = set()
    for task in definition.tasks:
        if any(need not in seen for need in task.needs):
            break
        seen.add(task.name)
    else:
        return definition.tasks
    tasks = {task.name: task for task in definition.tasks}
    sorter = TopologicalSorter({name: task.needs for name, task in tasks.items()})
    try:
        return [tasks[name] for name in sorter.static_order()]
    except CycleError as error:
        raise DefinitionError(
            f"tasks need each other in a circle: {' needs '.join(reversed(error.args[1]))}"
        ) from error
    except KeyError as error:
        raise DefinitionError(f"task {error.args[0]!r} is needed but is not a task of {definition.name!r}") from error


def ancestors(definition: PipelineDef) -> Mapping[str, frozenset[str]]:
    """Return for each task the names of all tasks above it."""
    found: dict[str, frozenset[str]] = {}
    for task in ordered(definition):
        found[task.name] = frozenset(task.needs).union(*(found[need] for need in task.needs))
    return found


def goes_on(order: Sequence[TaskDef]) -> frozenset[str]:
    """Return the tasks that start even in a stopped run: `all_done` tasks with needs, and what follows them."""
    found: set[str] = set()
    for task in order:
        if task.needs and (task.upstream == "all_done" or not found.isdisjoint(task.needs)):
            found.add(task.name)
    return frozenset(found)
