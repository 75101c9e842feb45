"""Tasks in YAML that are Python functions: do the functions exist, and do they take what they would get?

In flow the pipelines that were read; what is wrong is reported at the task's option that says it. Functions whose names
are templates or references are looked at when they run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath

from config.problems import Path, steps
from config.reading import Reading
from pipelines.errors import DefinitionError
from pipelines.pipeline import PipelineDef
from pipelines.signatures import Reference, Signature, misfit
from pipelines.task import TaskDef

ENGINES = ("python", "dask")
ReadSignatures = Callable[[Sequence[Reference], FilePath], Mapping[Reference, Signature | DefinitionError]]


def check_functions(reading: Reading, pipelines: Mapping[str, PipelineDef], read: ReadSignatures) -> None:
    """Report every task whose function cannot be had, or would be called with the wrong arguments."""
    found = [(path, pipeline, task, _reference(task)) for path, pipeline, task in _tasks(reading, pipelines)]
    signatures = read(sorted({one[-1] for one in found}, key=lambda one: one.function), reading.base)
    for path, pipeline, task, reference in found:
        signature = signatures[reference]
        problem: DefinitionError | None
        if isinstance(signature, DefinitionError):
            problem = DefinitionError(str(signature), "function", signature.hint)
        else:
            problem = misfit(task, signature, None if pipeline.params is None else tuple(pipeline.params))
        if problem is not None:
            reading.problem((*path, *steps(problem.path)), str(problem), problem.hint)


def _tasks(reading: Reading, pipelines: Mapping[str, PipelineDef]) -> Iterator[tuple[Path, PipelineDef, TaskDef]]:
    for name, pipeline in pipelines.items():
        for task in pipeline.tasks:
            for path in (("pipelines", name, "tasks", task.name), ("pipelines", name)):
                written = reading.node((*path, "function"))
                if written is not None and task.engine in ENGINES and "${" not in task.options["function"]:
                    yield path, pipeline, task
                    break


def _reference(task: TaskDef) -> Reference:
    return Reference(task.options["function"], tuple(task.options.get("sys_path") or ()))
