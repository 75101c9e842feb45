"""All sensor kinds that a service knows: the built-in ones from one explicit list, others through the same door.

In flow entry points (`tidegate.sensors`) and plug-in files, out flows one `SensorRegistry`, an object to pass around. A
plug-in file declares `api = 1` and `sensors = [SensorKind(…)]`; an entry point names a SensorKind, or such a module.
Nothing is skipped: what cannot be loaded stops the start with a sentence that names it.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import cast

from sensors.kind import SensorKind, SensorOptions

API = 1
GROUP = "tidegate.sensors"
# Name -> module; a module is imported when its kind is first asked for, so that a start pays for what it uses.
_BUILTIN: Mapping[str, str] = MappingProxyType(
    {
        name: f"sensors.kinds.{name.replace('-', '_')}"
        for name in (
            *("webhook", "files", "s3", "adls"),
            *("kafka", "rabbitmq", "sqs", "azure-queue"),
            *("http", "sql", "schedule"),
        )
    }
)


class PluginError(Exception):
    """A plug-in cannot be used; the sentence names it and what would be right."""


class SensorRegistry(Mapping[str, SensorKind]):
    """Kinds by name, in the order in which they were added. Never changes.

    `modules` are kinds that are imported when they are first asked for, by name; they come first.
    """

    def __init__(self, kinds: Iterable[SensorKind] = (), modules: Mapping[str, str] | None = None) -> None:
        """Raise PluginError for a duplicate name, another api, or options that are no SensorOptions."""
        self._modules = dict(modules or {})
        self._kinds: dict[str, SensorKind | None] = dict.fromkeys(self._modules)
        for kind in kinds:
            _check(kind)
            if kind.name in self._kinds:
                raise PluginError(f"sensor kind {kind.name!r} is declared twice; rename one of them")
            self._kinds[kind.name] = kind

    def __getitem__(self, name: str) -> SensorKind:
        kind = self._kinds[name]
        if kind is None:
            kind = self._kinds[name] = _of_module(self._modules[name])
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def names(self) -> tuple[str, ...]:
        """Return all names in order."""
        return tuple(self._kinds)


def builtin_kinds() -> tuple[SensorKind, ...]:
    """Return the kinds that come with the service."""
    return tuple(_of_module(module) for module in _BUILTIN.values())


def load_registry(plugins: Sequence[Path], *, installed: Iterable[EntryPoint] | None = None) -> SensorRegistry:
    """Return built-in kinds, those of installed distributions, and those of plug-in files, in this order.

    `installed` replaces the entry points found in the environment. Raises PluginError.
    """
    kinds: list[SensorKind] = []
    for entry in entry_points(group=GROUP) if installed is None else installed:
        kinds += _from_entry_point(entry)
    for path in plugins:
        kinds += _from_file(path)
    return SensorRegistry(kinds, _BUILTIN)


def _of_module(name: str) -> SensorKind:
    return cast("SensorKind", importlib.import_module(name).KIND)


def _check(kind: object) -> None:
    if not isinstance(kind, SensorKind):
        raise PluginError(f"{kind!r} is no SensorKind; declare `sensors = [SensorKind(…)]`")
    if kind.api != API:
        raise PluginError(f"sensor kind {kind.name!r} is made for api {kind.api}, and this service offers api {API}")
    options: object = kind.options
    if not (isinstance(options, type) and issubclass(options, SensorOptions)):
        raise PluginError(f"the options of sensor kind {kind.name!r} must extend sensors.authoring.SensorOptions")


def _from_entry_point(entry: EntryPoint) -> Sequence[SensorKind]:
    try:
        found = entry.load()
    except Exception as error:
        raise PluginError(f"entry point {entry.name} = {entry.value} cannot be loaded: {error}") from error
    if isinstance(found, ModuleType):
        return _declared(found, f"entry point {entry.name} = {entry.value}")
    return [found]


def _from_file(path: Path) -> Sequence[SensorKind]:
    full = path.resolve()
    # Two plug-ins may have the same file name; pydantic and dataclasses look their module up by its name.
    name = f"tidegate_plugin_{hashlib.sha256(str(full).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return _declared(sys.modules[name], str(path))
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None or not full.is_file():
        raise PluginError(f"plug-in {path} is not there, or no Python file; correct `service.plugins`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(f"plug-in {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return _declared(module, str(path))


def _declared(module: ModuleType, where: str) -> Sequence[SensorKind]:
    api = getattr(module, "api", None)
    if api != API:
        said = "declares no api" if api is None else f"is made for api {api!r}"
        raise PluginError(f"plug-in {where} {said}; this service offers api {API}: declare `api = {API}`")
    kinds = getattr(module, "sensors", None)
    if kinds is None:
        if hasattr(module, "engines"):  # a plug-in of another stage
            return ()
        raise PluginError(f"plug-in {where} declares nothing; declare `sensors = [SensorKind(…)]`")
    if not isinstance(kinds, (list, tuple)):
        raise PluginError(f"plug-in {where}: `sensors` must be a list of SensorKind")
    return list(kinds)
