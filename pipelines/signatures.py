"""What functions take that YAML names as tasks, found out without importing them here: a child process does.

In flow references `module:function` with the folders to import from; out flow their parameters, or what is wrong. The
child (`python -m pipelines.signatures BASE JSON`) finds them as a worker would, prints one JSON object and is gone.
"""

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.errors import DefinitionError, TaskFailed
from pipelines.graph import nearest
from pipelines.task import TaskDef

WITHIN = 60.0  # seconds
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as a task names it."""

    function: str
    sys_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """The names that a function takes, those that it must get, and whether it takes any other as well."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]
    any: bool


def read_signatures(
    references: Sequence[Reference], base: Path, *, within: float = WITHIN
) -> Mapping[Reference, Signature | DefinitionError]:
    """Return the signature of each function, or what is wrong with it. Blocks for as long as the imports take."""
    if not references:
        return {}
    wanted = orjson.dumps([[one.function, list(one.sys_path)] for one in references]).decode()
    names = ", ".join(one.function for one in references)
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pipelines.signatures", str(base.resolve()), wanted],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired:
        error = DefinitionError(f"importing {names} took longer than {within:g} s", hint="do no work at import")
        return dict.fromkeys(references, error)
    try:
        answers = orjson.loads(done.stdout.rsplit(b"\n", 2)[-2])
    except (IndexError, orjson.JSONDecodeError):
        said = f"importing {names} ended the process (exit code {done.returncode})"
        return dict.fromkeys(references, DefinitionError(said))
    return {one: _read(answer) for one, answer in zip(references, answers, strict=True)}


def misfit(task: TaskDef, signature: Signature, params: Sequence[str] | None) -> DefinitionError | None:
    """Return what a task gives that its function does not take, or does not give that it needs. Pure.

    `params` are the names of the pipeline's parameters; None: any may be given.
    """
    for name in task.inputs:
        if not signature.any and name not in signature.takes:
            said = f"{task.options['function']} takes no {name!r}, which `inputs` reads"
            return DefinitionError(said, "inputs", nearest(name, signature.takes))
    for name in task.options.get("args") or {}:
        if not signature.any and name not in signature.takes:
            said = f"{task.options['function']} takes no {name!r}"
            return DefinitionError(said, f"args.{name}", nearest(name, signature.takes))
    if params is None:
        return None
    known = {*(task.options.get("args") or {}), *task.inputs, *task.needs, *params}
    for name in signature.needs:
        if name not in known:
            said = f"{task.options['function']} needs {name!r}, which nobody gives"
            there = ", ".join(sorted(known))
            hint = f"add it to `args`, `inputs` or `needs`, or to the pipeline's `params` (there: {there})"
            return DefinitionError(said, "function", hint)
    return None


def _read(answer: Mapping[str, Any]) -> Signature | DefinitionError:
    if "wrong" in answer:
        return DefinitionError(answer["wrong"])
    return Signature(tuple(answer["takes"]), tuple(answer["needs"]), answer["any"])


def _answer(function: str, sys_path: Sequence[str], base: str) -> dict[str, Any]:
    from pipelines.workers.calling import is_context
    from pipelines.workers.frames import Job
    from pipelines.workers.functions import Functions

    job = Job(
        function=function,
        base=base,
        sys_path=tuple(sys_path),
        run="",
        fence=0,
        task="",
        partition="",
        attempt=0,
        values="",
    )
    functions = Functions()
    functions.fit(job)
    try:
        found = functions.resolve(job)
        parameters = inspect.signature(found).parameters
    except (TaskFailed, ValueError) as error:
        return {"wrong": str(error)}
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"wrong": f"{function} cannot be imported: {type(error).__name__}: {error}"}
    named = {name: one for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    return {
        "takes": list(named),
        "needs": [name for name, one in named.items() if one.default is one.empty and not is_context(found, name)],
        "any": any(one.kind is one.VAR_KEYWORD for one in parameters.values()),
    }


def main(arguments: Sequence[str]) -> int:
    """Print what was found as the last line of standard output; what users' modules print goes to standard error."""
    base, wanted = arguments
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers = [_answer(function, sys_path, base) for function, sys_path in orjson.loads(wanted)]
    out.write(orjson.dumps(answers) + b"\n")
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
