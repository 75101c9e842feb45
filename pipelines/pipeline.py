"""PipelineDef: a directed acyclic graph of tasks with typed parameters, as plain frozen data.

A run snapshots its definition: `to_json` gives canonical text, `definition_hash` its name, `from_json` reads it back.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from pipelines.task import Retries, TaskDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A run parameter. `type` is one of str int float bool date datetime list map any."""

    type: str = "any"
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDef:
    """A pipeline. `concurrency` bounds its runs under way everywhere; `max_tasks` its tasks at once within one run.

    `params` None means: any parameters are taken as they come.
    """

    name: str
    tasks: Sequence[TaskDef]
    params: Mapping[str, Param] | None = None
    concurrency: int = 16
    max_tasks: int = 16
    start_within: float | None = None
    finish_by: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)

    def task(self, name: str) -> TaskDef:
        """Return the task of that name; KeyError when there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)


def to_json(pipeline: PipelineDef) -> str:
    """Return the definition as canonical JSON text (sorted keys)."""
    raw = asdict(pipeline)
    for task in raw["tasks"]:
        if not task["inputs"]:  # what is not used is not written: earlier versions' texts and names stay the same
            del task["inputs"]
    return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode()


def definition_hash(text: str) -> str:
    """Return the name under which a definition's canonical text is stored."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def from_json(text: str) -> PipelineDef:
    """Read a definition back from its canonical text."""
    raw = orjson.loads(text)
    tasks = tuple(
        TaskDef(
            **{
                **task,
                "retries": Retries(**task["retries"]),
                "needs": tuple(task["needs"]),
                "outputs": tuple(task["outputs"]),
                "tags": tuple(task["tags"]),
            }
        )
        for task in raw["tasks"]
    )
    params = None if raw["params"] is None else {name: Param(**param) for name, param in raw["params"].items()}
    return PipelineDef(**{**raw, "tasks": tasks, "params": params, "tags": tuple(raw["tags"])})
