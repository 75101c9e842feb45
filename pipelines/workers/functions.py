"""Finding a task's function: `module:qualname` becomes a callable. Modules are imported once per worker.

What comes from the user's folders is imported through `pipelines.workers.code`, which knows the version that a run is
bound to. A worker that has another one is of no use to the run and must be replaced.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import TaskFailed
from pipelines.workers.code import CodeGone, Loader, UserCode, manifest_of
from pipelines.workers.frames import Job


class Functions:
    """The functions that one worker has imported."""

    def __init__(self, *, first: bool = True) -> None:
        """`first`: the user's folders go before all others, as in a process that is theirs."""
        self._first = first
        self._found: dict[tuple[str, str], Callable[..., Any]] = {}
        self._path: tuple[str, ...] = ()
        self._own_path = list(sys.path)
        self._code = UserCode()

    def fit(self, job: Job) -> bool:
        """Make ready for a job; False when this worker has imported other versions of files than the job's run has."""
        folders = folders_of(job)
        if folders != self._path:
            self._path = folders
            others = [entry for entry in self._own_path if entry not in folders]
            sys.path[:] = [*folders, *others] if self._first else [*others, *folders]
        kept = Path(job.code) if job.code else None
        return self._code.fits(folders, manifest_of(Path(job.values)) if kept else None, kept)

    def forget(self) -> None:
        """Begin anew, as a new process would: for the one process that cannot be replaced."""
        self._found.clear()
        self._code.forget()

    def close(self) -> None:
        """Leave the process as it was found."""
        self._found.clear()
        self._code.close()
        sys.path[:] = [entry for entry in sys.path if entry in self._own_path or entry not in self._path]

    def resolve(self, job: Job) -> Callable[..., Any]:
        """Import what is needed and return the function; TaskFailed (not retryable) says what was not found."""
        key = (job.base, job.function)
        function = self._found.get(key)
        if function is None:
            function = self._found[key] = resolve(job.function, job.base, self._code)
            self.remember()
        return function

    def remember(self) -> None:
        """Bind the job's run to the versions of all files that have been imported."""
        self._code.bind()


def folders_of(job: Job) -> tuple[str, ...]:
    """Return the user's folders of a job, the base folder first."""
    return (job.base, *(str(Path(job.base, folder)) for folder in job.sys_path))


def resolve(reference: str, base: str, code: UserCode) -> Callable[..., Any]:
    """Return the function that a reference names; raises TaskFailed (not retryable)."""
    module_name, found, qualname = reference.rpartition(":")
    if not found or not module_name or not qualname:
        raise TaskFailed(f"{reference!r} is not module:function", "bad_options", retryable=False)
    try:
        target: Any = _import(module_name, base, code)
    except CodeGone as error:
        raise TaskFailed(str(error), "code_gone", retryable=False) from error
    except ModuleNotFoundError as error:
        raise TaskFailed(
            f"{reference!r} cannot be imported: {error}. It is looked for in {base} and the task's `sys_path`, "
            "then where Python looks",
            "import",
            retryable=False,
        ) from error
    for part in qualname.split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            raise TaskFailed(f"{module_name} has no {qualname!r}", "import", retryable=False) from None
    function = inspect.unwrap(target) if hasattr(target, "__wrapped__") else target
    if not callable(function):
        raise TaskFailed(f"{reference!r} is a {type(function).__name__}, not a function", "import", retryable=False)
    return function  # type: ignore[no-any-return]


def _import(name: str, base: str, code: UserCode) -> Any:
    importlib.invalidate_caches()  # a file may have come since the folder was last looked at
    if not name.endswith(".py"):
        return importlib.import_module(name)
    file = Path(base, name).absolute()
    alias = f"_tidegate_user_{file.stem}_{abs(hash(str(file))):x}"
    if alias in sys.modules and not code.bare:
        return sys.modules[alias]
    spec = importlib.util.spec_from_file_location(alias, file, loader=Loader(alias, str(file), code))
    if spec is None or spec.loader is None or not file.exists():
        raise ModuleNotFoundError(f"there is no file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module
