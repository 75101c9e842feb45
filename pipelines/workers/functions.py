"""Finding a task's function and calling it: `module:qualname` becomes a callable, names become arguments.

Modules are imported once per worker. The files of everything that came from the user's folders are remembered with
their modification times: when one of them changed, the worker is `stale` and must be replaced, because Python cannot
import a module anew without leaving parts of the old one behind.
"""

import asyncio
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

from pipelines.datasets.values import load
from pipelines.errors import TaskFailed

CONTEXT = "context"


class Functions:
    """The functions that one worker has imported."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Callable[..., Any]] = {}
        self._path: tuple[str, ...] = ()
        self._own_path = list(sys.path)
        self._files: dict[str, int] = {}
        self._seen = 0

    def stale(self) -> bool:
        """Say whether a file of the user's code has changed since it was imported."""
        for file, modified in self._files.items():
            try:
                if Path(file).stat().st_mtime_ns != modified:
                    return True
            except OSError:
                return True
        return False

    def resolve(self, reference: str, base: str, path: Sequence[str]) -> Callable[..., Any]:
        """Import what is needed and return the function; TaskFailed (not retryable) says what was not found."""
        folders = (base, *(str(Path(base, folder)) for folder in path))
        if folders != self._path:
            self._path = folders
            sys.path[:] = [*folders, *(entry for entry in self._own_path if entry not in folders)]
        key = (base, reference)
        function = self._found.get(key)
        if function is None:
            function = self._found[key] = _resolve(reference, base)
        return function

    def remember(self) -> None:
        """Take note of the files of modules that were imported since the last call."""
        if len(sys.modules) == self._seen:
            return
        self._seen = len(sys.modules)
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or file in self._files or "site-packages" in file:
                continue
            if file.startswith(tuple(folder.rstrip("/") + "/" for folder in self._path)):
                try:
                    self._files[file] = Path(file).stat().st_mtime_ns
                except OSError:
                    continue


def _resolve(reference: str, base: str) -> Callable[..., Any]:
    module_name, found, qualname = reference.rpartition(":")
    if not found or not module_name or not qualname:
        raise TaskFailed(f"{reference!r} is not module:function", "bad_options", retryable=False)
    try:
        target: Any = _import(module_name, base)
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


def _import(name: str, base: str) -> Any:
    importlib.invalidate_caches()  # a file may have come since the folder was last looked at
    if not name.endswith(".py"):
        return importlib.import_module(name)
    file = Path(base, name).absolute()
    alias = f"_tidegate_user_{file.stem}_{abs(hash(str(file))):x}"
    if alias in sys.modules:
        return sys.modules[alias]
    spec = importlib.util.spec_from_file_location(alias, file)
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


def call(
    function: Callable[..., Any],
    context: object,
    args: Mapping[str, Any],
    upstream: Mapping[str, Any],
    params: Mapping[str, Any],
) -> Any:
    """Call the function with what its parameters name; an `async def` runs to its end in a loop of its own."""
    positional, named = _bind(function, context, args, upstream, params)
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(*positional, **named))
    return function(*positional, **named)


def _bind(
    function: Callable[..., Any],
    context: object,
    args: Mapping[str, Any],
    upstream: Mapping[str, Any],
    params: Mapping[str, Any],
) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    hints = _hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update({key: value for key, value in {**params, **args}.items() if key not in named})
            continue
        if name in args:
            value = _typed(args[name], hints.get(name))
        elif name in upstream:
            value = _frame(load(upstream[name]), hints.get(name))
        elif name in params:
            value = _typed(params[name], hints.get(name))
        elif name == CONTEXT:
            value = context
        elif parameter.default is not parameter.empty:
            continue
        else:
            known = ", ".join(sorted({*args, *upstream, *params})) or "nothing"
            raise TaskFailed(
                f"the function's parameter {name!r} is neither a task that it needs, nor a parameter of the run, "
                f"nor has it a default; there are: {known}",
                "bad_arguments",
                retryable=False,
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    return positional, named


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # noqa: BLE001 - annotations are the user's; without them values stay as they came
        return {}


def _typed(value: Any, hint: Any) -> Any:
    """Turn JSON text into the date, time, Decimal or Path that the function asks for."""
    if not isinstance(value, str):
        return value
    try:
        if hint in (datetime, date, time):
            return hint.fromisoformat(value)
        if hint in (Decimal, Path):
            return hint(value)
    except (ValueError, ArithmeticError) as error:
        raise TaskFailed(f"{value!r} is not a {hint.__name__}: {error}", "bad_arguments", retryable=False) from error
    return value


def _frame(value: Any, hint: Any) -> Any:
    """Give a function that asks for a LazyFrame one."""
    if getattr(hint, "__name__", "") == "LazyFrame" and hasattr(value, "lazy"):
        return value.lazy()
    return value
