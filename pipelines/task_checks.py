"""What can be wrong with how one task fans out, what it waits for, and what it repeats. Pure."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from difflib import get_close_matches

from pipelines.errors import DefinitionError, TaskFailed
from pipelines.fanout import slices_of
from pipelines.retry_rules import word_problem
from pipelines.task import TaskDef


def check_fan_out(task: TaskDef, tasks: Mapping[str, TaskDef]) -> list[DefinitionError]:
    """Return what is wrong with `partitions`, `per`, `require` and `max_parallel`."""
    found: list[DefinitionError] = []
    where = f"tasks.{task.name}"

    def wrong(said: str, field: str, hint: str) -> None:
        found.append(DefinitionError(f"task {task.name!r} {said}", f"{where}.{field}", hint))

    if task.partitions is not None and not isinstance(task.partitions, str):
        try:
            slices_of(task.partitions)
        except TaskFailed as error:
            wrong(f"cannot fan out: {error}", "partitions", "write a list of texts, numbers or maps, or a map")
    if task.per is not None:
        above = tasks.get(task.per)
        if task.partitions is not None:
            wrong("has both `partitions` and `per`", "per", "`per` takes the partitions of another task; keep one")
        if task.per not in task.needs:
            wrong(f"is per {task.per!r}, which it does not need", "per", f"add {task.per} to its needs")
        elif above is not None and not above.fans_out:
            wrong(f"is per {task.per!r}, which does not fan out", "per", f"give {task.per} `partitions`")
        if task.upstream != "all_success":
            wrong(f"is per {task.per!r} with `upstream: {task.upstream}`", "upstream", "`per` needs all_success")
    for field in ("require", "max_parallel"):
        if getattr(task, field) is not None and not task.fans_out:
            wrong(f"has `{field}` but does not fan out", field, "add `partitions`, or take it away")
    require = task.require
    if require is not None and (not 0 < require <= 1 if isinstance(require, float) else require < 1):
        wrong(f"has `require: {require}`", "require", "write `all`, a number of partitions, or a share like 0.9")
    if task.max_parallel is not None and task.max_parallel < 1:
        wrong("has a `max_parallel` below 1: no partition could start", "max_parallel", "use 1 or more")
    if task.timeout_all is not None and not task.timeout_all > 0:
        wrong(f"has a timeout_all of {task.timeout_all}", "timeout_all", "use more than 0s")
    return found


def check_retry_words(task: TaskDef) -> list[DefinitionError]:
    """Return what is wrong with `retry_on` and `never_retry_on`."""
    found: list[DefinitionError] = []
    for field in ("retry_on", "never_retry_on"):
        for word in getattr(task, field):
            problem = word_problem(word)
            if problem is not None:
                hint = "for example [timeout, ConnectionError, exit:75, http:503]"
                found.append(DefinitionError(f"task {task.name!r}: {problem}", f"tasks.{task.name}.{field}", hint))
    if task.retry_on and not task.retries.attempts:
        said = f"task {task.name!r} has `retry_on` but no retries"
        found.append(DefinitionError(said, f"tasks.{task.name}.retry_on", "add `retries: 3`"))
    return found


_SEEN = re.compile(r"""\btasks(?:\.([A-Za-z_]\w*)|\[["']([^"']+)["']\])""")


def check_conditions(task: TaskDef, tasks: Mapping[str, TaskDef], above: AbstractSet[str]) -> list[DefinitionError]:
    """Return which tasks `when` and `partitions` speak of that are not above their own."""
    found: list[DefinitionError] = []
    for field in ("when", "partitions"):
        text = getattr(task, field)
        names = [m[1] or m[2] for m in _SEEN.finditer(text)] if isinstance(text, str) else []
        for name in dict.fromkeys(names):
            if name in above:
                continue
            if name in tasks:
                said, hint = f"the output of {name!r}, which it does not need", f"add {name} to its needs"
            else:
                close = get_close_matches(name, tasks, n=1)
                said = f"{name!r}, which is not a task"
                hint = f"did you mean {close[0]!r}?" if close else "name a task that it needs"
            where = f"tasks.{task.name}.{field}"
            found.append(DefinitionError(f"task {task.name!r} asks in `{field}` for {said}", where, hint))
    return found
