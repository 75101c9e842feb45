"""Checks, once tasks and datasets are known: those of a dataset go to the tasks that write or check it.

In flow pipelines and datasets as they were read; out flow pipelines whose tasks carry every check that judges their
data, with names of datasets replaced by where those lie. A run stores its definition, so it is judged by the checks
that were in force when it started. What names nothing is reported at its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from config.problems import Path, known_names
from config.reading import Reading
from pipelines.checks.registry import needs_memory
from pipelines.checks.spec import as_plain
from pipelines.checks.written import CheckEntry, unfolded
from pipelines.datasets.asking import refuse_unasked
from pipelines.datasets.definition import DatasetDef
from pipelines.pipeline import PipelineDef
from pipelines.task import TaskDef

WRITERS: Final = ("python", "dask")
CHECKER: Final = "check"
Datasets = Mapping[str, DatasetDef]
Checks = Mapping[str, Sequence[CheckEntry]]


def settle_checks(reading: Reading, pipelines: Mapping[str, PipelineDef], datasets: Datasets) -> dict[str, PipelineDef]:
    """Return the pipelines with all checks where they are made."""
    theirs = {
        name: [_placed(reading, ("datasets", name, "checks"), entry, datasets) for entry in _entries(dataset.checks)]
        for name, dataset in datasets.items()
    }
    for name, dataset in datasets.items():
        if dataset.freshness is not None and dataset.freshness.probe is not None:
            _askable(reading, ("datasets", name, "freshness", "probe"), dataset.uri)
    found = {}
    for name, pipeline in pipelines.items():
        tasks = tuple(_task(reading, name, task, datasets, theirs) for task in pipeline.tasks)
        found[name] = replace(pipeline, tasks=tasks) if tasks != tuple(pipeline.tasks) else pipeline
    return found


def _task(reading: Reading, pipeline: str, task: TaskDef, datasets: Datasets, theirs: Checks) -> TaskDef:
    if task.engine not in (*WRITERS, CHECKER):
        return task
    place = _place(reading, pipeline, task, "checks")
    own = [_placed(reading, place, entry, datasets) for entry in _entries(task.options.get("checks") or ())]
    options = dict(task.options)
    if task.engine == CHECKER:
        options.update(_checked(reading, _place(reading, pipeline, task, "dataset"), task, datasets))
        of = theirs.get(str(task.options.get("dataset")), ())
        more = [one for one in of if not needs_memory(one.spec)]  # only who writes knows of earlier writes
    else:
        output = task.options.get("output")
        written = next((one for one in datasets.values() if output is not None and output in (one.name, one.uri)), None)
        more = [] if written is None else list(theirs[written.name])
    if own or more:
        options["checks"] = [as_plain(entry.spec) for entry in (*more, *own)]
    return replace(task, options=options) if options != task.options else task


def _place(reading: Reading, pipeline: str, task: TaskDef, key: str) -> Path:
    """Return where a task says something; a short entry and a pipeline in Python have no place of their own for it."""
    place: Path = ("pipelines", pipeline)
    for candidate in ((*place, "tasks", task.name, key), (*place, key)):
        if reading.node(candidate) is not None:
            return candidate
    return place


def _checked(reading: Reading, place: Path, task: TaskDef, datasets: Datasets) -> dict[str, Any]:
    """Return where the dataset of a checking task lies."""
    name = str(task.options.get("dataset"))
    if "://" in name or task.options.get("uri") is not None or "${{" in name:
        return {}
    dataset = datasets.get(name)
    if dataset is None:
        reading.problem(place, f"there is no dataset `{name}`", known_names(name, datasets))
        return {}
    _askable(reading, place, dataset.uri)
    connection = task.options.get("connection") or dataset.connection
    return {"uri": dataset.uri} | ({} if connection is None else {"connection": connection})


def _askable(reading: Reading, place: Path, uri: str) -> None:
    """Report a dataset whose store cannot be asked a question."""
    try:
        refuse_unasked(uri)
    except ValueError as error:
        message, _, remedy = str(error).partition("; ")
        reading.problem(place, message, remedy)


def _entries(checks: Sequence[Any]) -> Sequence[CheckEntry]:
    """Return checks as they were validated before."""
    return [CheckEntry.model_validate(unfolded(check)) for check in checks]


def _placed(reading: Reading, place: Path, entry: CheckEntry, datasets: Datasets) -> CheckEntry:
    """Return a check whose other dataset is named by where it lies."""
    other = entry.options.get("other")
    if entry.kind != "reconcile" or not isinstance(other, str) or "://" in other or "${{" in other:
        return entry
    dataset = datasets.get(other)
    if dataset is None:
        reading.problem(place, f"reconcile: there is no dataset `{other}`", known_names(other, datasets))
        return entry
    _askable(reading, place, dataset.uri)
    options = {**entry.options, "other": dataset.uri}
    if dataset.connection is not None:
        options.setdefault("connection", dataset.connection)
    return entry.model_copy(update={"options": options})
