"""Where a Python task runs, in one word: here, or on a Dask cluster. Pure.

In flows `on` as people write it, with a task that is a Python function; out flows the same task on the engine that the
word means, its options completed.
"""

from dataclasses import replace

from pipelines.errors import DefinitionError
from pipelines.task import TaskDef

HERE = "python"
SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


def check_place(on: str) -> str:
    """Return `on` if it names a place; raise DefinitionError otherwise."""
    if on in ("", HERE, "dask") or (on.startswith("dask:") and len(on) > 5) or on.startswith(SCHEMES):
        return on
    raise DefinitionError(
        f"{on!r} is no place to run Python tasks", "on", 'write "dask", "dask:CONNECTION", or "tcp://host:8786"'
    )


def placed(task: TaskDef, on: str) -> TaskDef:
    """Return a Python task of this service on the place that `on` names; any other task, and any for "", as it is."""
    if not on or on == HERE or task.engine != HERE or task.options.get("in_loop"):
        return task
    options = {name: value for name, value in task.options.items() if name != "in_loop"}
    if on.startswith(SCHEMES):
        options["scheduler"] = on
    elif on.startswith("dask:"):
        options["connection"] = on.removeprefix("dask:")
    return replace(task, engine="dask", options=options)
