"""Shape: what never changes about a pipeline's graph, worked out once and shared by all steps of its runs."""

from collections.abc import Mapping, Sequence

from pipelines.graph import goes_on, ordered
from pipelines.pipeline import PipelineDef
from pipelines.task import TaskDef


class Shape:
    """A definition with its tasks by name and in topological order, who waits for whom, and who goes on regardless.

    `below` are the tasks that need a task, `copies` those that fan out `per` it. `exempt` start even in a stopped run.
    Raises DefinitionError for a graph that has no order.
    """

    __slots__ = ("below", "copies", "definition", "exempt", "index", "order", "tasks")

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
