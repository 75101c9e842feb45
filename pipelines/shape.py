"""Shape: what never changes about a pipeline's graph, worked out once and shared by all steps of its runs."""

import re
from collections.abc import Mapping, Sequence

from pipelines.graph import goes_on, ordered
from pipelines.pipeline import PipelineDef
from pipelines.task import TaskDef

_NAMED = re.compile(r"""\btasks(?:\.(\w+)|\[["']([^"']+)["']\])""")


class Shape:
    """A definition with its tasks by name and in topological order, who waits for whom, and who goes on regardless.

    `below` are the tasks that need a task, `copies` those that fan out `per` it. `exempt` start even in a stopped run.
    `reads` are the needs that a task's conditions name: these have ended before the conditions are evaluated, whatever
    the rule over the needs, for else it would be luck what they see.
    Raises DefinitionError for a graph that has no order.
    """

    __slots__ = ("below", "copies", "definition", "exempt", "index", "order", "reads", "tasks")

    def __init__(self, definition: PipelineDef) -> None:
        self.definition = definition
        self.order: Sequence[TaskDef] = ordered(definition)
        self.tasks: Mapping[str, TaskDef] = {task.name: task for task in self.order}
        self.index: Mapping[str, int] = {task.name: place for place, task in enumerate(self.order)}
        self.exempt = goes_on(self.order)
        below: dict[str, list[str]] = {task.name: [] for task in self.order}
        copies: dict[str, list[str]] = {}
        for task in self.order:
            for need in task.needs:
                below[need].append(task.name)
            if task.per is not None:
                copies.setdefault(task.per, []).append(task.name)
        self.below: Mapping[str, Sequence[str]] = below
        self.copies: Mapping[str, Sequence[str]] = copies
        self.reads: Mapping[str, Sequence[str]] = {task.name: _read(task) for task in self.order}


def _read(task: TaskDef) -> Sequence[str]:
    """Return the needs that `when` and `partitions` name."""
    texts = [text for text in (task.when, task.partitions) if isinstance(text, str)]
    named = {dotted or quoted for text in texts for dotted, quoted in _NAMED.findall(text)}
    return tuple(need for need in task.needs if need in named)
