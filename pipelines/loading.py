"""Loads pipelines written in Python without importing them here: a child process does, and tells their definitions.

In flow references `module:attribute` and the folder that relative imports start from; out flow PipelineDefs, and the
files below that folder which were imported for them. The child (`python -m pipelines.loading BASE REFERENCE…`) prints
one JSON object and is gone, with all that users' modules import.
"""

import importlib
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from pipelines.errors import DefinitionError
from pipelines.graph import nearest
from pipelines.pipeline import PipelineDef, from_json, to_json

LOAD_WITHIN = 60.0  # seconds
_ROOT = Path(__file__).resolve().parent.parent


class Loaded(dict[str, PipelineDef | DefinitionError]):
    """What references name, by reference, and the user's `files` that it came from."""

    files: tuple[Path, ...] = ()


def load_pipeline(reference: str, base: Path) -> PipelineDef:
    """Return the pipeline that `module:attribute` names. Blocks for as long as the import takes.

    Modules are found beside `base` (an absolute folder), in the working folder, and among installed ones. Raises
    DefinitionError with a sentence that names file and line where the module is at fault.
    """
    found = load_pipelines([reference], base)[reference]
    if isinstance(found, DefinitionError):
        raise found
    return found


def load_pipelines(
    references: Sequence[str], base: Path, *, within: float = LOAD_WITHIN
) -> Mapping[str, PipelineDef | DefinitionError]:
    """Load several in one child process: each one's definition, or what is wrong with it; a `Loaded` when it ran."""
    if not references:
        return {}
    command = [sys.executable, "-B", "-m", "pipelines.loading", str(base.resolve()), *references]
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"importing {', '.join(references)} took longer than {within:g} s"
        error = DefinitionError(said, hint="a module of tasks does no work when it is imported")
        return dict.fromkeys(references, error)
    last = done.stdout.rsplit(b"\n", 2)[-2:-1]
    try:
        answers = orjson.loads(last[0])
    except (IndexError, orjson.JSONDecodeError):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        said = f"importing {', '.join(references)} ended the process (exit code {done.returncode}): {' '.join(tail)}"
        return dict.fromkeys(references, DefinitionError(said))
    found = Loaded({reference: _read_answer(answers["found"][reference]) for reference in references})
    found.files = tuple(Path(file) for file in answers["files"])
    return found


def find_target(reference: str) -> Any:
    """Import here and return what the reference names, a Task or a Pipeline. Raises DefinitionError."""
    from pipelines.authoring import Pipeline, Task

    name, colon, attribute = reference.partition(":")
    if not (name and colon and attribute):
        raise DefinitionError(f"{reference!r} names no attribute of a module", hint="write package.module:name")
    module = _import(name)
    target = getattr(module, attribute, None)
    if isinstance(target, Task | Pipeline):
        return target
    if callable(target):
        said = f"{reference} is {type(target).__name__} {attribute}, not a task"
        raise DefinitionError(said, hint="decorate it with @task (from pipelines.authoring import task)")
    offered = [key for key, value in vars(module).items() if isinstance(value, Task | Pipeline)]
    if target is None:
        raise DefinitionError(f"module {name} has no {attribute!r}", hint=nearest(attribute, offered))
    said = f"{reference} is no task and no pipeline but {type(target).__name__}"
    raise DefinitionError(said, hint=nearest(attribute, offered))


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        at = next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if _foreign(f.filename)), None)
        where = f" ({at.filename} line {at.lineno})" if at else ""
        if isinstance(error, SyntaxError):
            where = f" ({error.filename} line {error.lineno})"
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            if name == error.name or name.startswith(f"{error.name}."):
                hint = f"modules are looked for in: {', '.join(path or '.' for path in sys.path[:3])}"
            else:
                hint = f"install what provides {error.name!r} beside Tidegate"
        if isinstance(error, DefinitionError):
            hint = error.hint
        raise DefinitionError(
            f"{name} cannot be imported: {type(error).__name__}: {error}{where}", hint=hint
        ) from error


def _foreign(filename: str) -> bool:
    """Say whether a frame is the user's: neither Python's import machinery nor ours."""
    return (
        not filename.startswith("<frozen")
        and Path(filename).resolve().parent != _ROOT / "pipelines"
        and ("importlib" not in filename)
    )


def _read_answer(answer: Mapping[str, Any]) -> PipelineDef | DefinitionError:
    if "definition" in answer:
        return from_json(answer["definition"])
    return DefinitionError(answer["message"], answer["path"], answer["hint"])


def _answer(reference: str, base: str) -> dict[str, str]:
    from pipelines.describe import describe

    try:
        target = find_target(reference)
        definition = describe(target, sys_path=[base])
        return {"definition": to_json(definition)}
    except DefinitionError as error:
        return {"message": str(error), "path": error.path, "hint": error.hint}


def _imported(base: str) -> list[str]:
    """Return the files below a folder of modules that have been imported, but for our own and installed ones."""
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    own = tuple(f"{_ROOT / name}/" for name in ("sensors", "triggers", "pipelines", "config", "tidegate"))
    below = f"{base.rstrip('/')}/"
    return sorted(
        file for file in files if file.startswith(below) and not file.startswith(own) and "site-packages" not in file
    )


def main(arguments: Sequence[str]) -> int:
    """Print the definitions as the last line of standard output; what users' modules print goes to standard error."""
    base, *references = arguments
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path.insert(0, base)
    found = {reference: _answer(reference, base) for reference in references}
    out.write(orjson.dumps({"found": found, "files": _imported(base)}) + b"\n")
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
