"""The engine kinds there are: built-in ones from one explicit list, others by entry point or plug-in file.

All come through the same door: an `EngineKind` with `api = 1`. Built-in kinds are imported when they are asked for, so
that what nobody configured costs nothing. The registry is an object; an empty one is `EngineRegistry({})`.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipelines.errors import DefinitionError
from pipelines.graph import nearest
from pipelines.kind import EngineKind, EngineOptions

API = 1
GROUP = "tidegate.engines"

Source = Callable[[], EngineKind]


def builtin_kinds() -> Mapping[str, str]:
    """Return the built-in kinds: name to `module:attribute`. Adding one means adding a line here."""
    return MappingProxyType(
        {
            "python": "pipelines.engines.python:KIND",
            "dask": "pipelines.engines.dask:KIND",
            "command": "pipelines.engines.command:KIND",
            "http": "pipelines.engines.http:KIND",
            "kafka": "pipelines.engines.kafka:KIND",
            "check": "pipelines.engines.check:KIND",
        }
    )


class EngineRegistry(Mapping[str, EngineKind]):
    """Engine kinds by name, each loaded when it is first asked for.

    `registry[name]` raises DefinitionError when there is no such kind (its hint names the nearest) or when it cannot be
    loaded.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._loaded: dict[str, EngineKind] = {}

    def __getitem__(self, name: str) -> EngineKind:
        kind = self._loaded.get(name)
        if kind is None:
            source = self._sources.get(name)
            if source is None:
                raise DefinitionError(f"there is no engine {name!r}", "engine", nearest(name, list(self._sources)))
            kind = self._loaded[name] = source()
            if kind.name != name:
                raise DefinitionError(f"the engine offered as {name!r} calls itself {kind.name!r}", "engine")
        return kind

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the kind, `default` when there is none of that name; one that cannot be loaded still raises."""
        return self[name] if name in self._sources else default


def load_registry(plugins: Sequence[Path] = (), *, others: Sequence[EntryPoint] | None = None) -> EngineRegistry:
    """Gather all kinds: built-in, installed (entry points of group `tidegate.engines`), and those of plug-in files.

    `others` stands in for the installed entry points. Raises DefinitionError for a plug-in file that cannot be read,
    for
    an object that is no kind of this API, and for a name that two of them claim.
    """
    sources: dict[str, Source] = {name: _importer(reference) for name, reference in builtin_kinds().items()}
    for entry in entry_points(group=GROUP) if others is None else others:
        _add(sources, entry.name, _entry_loader(entry), f"the installed engine {entry.value}")
    for path in plugins:
        for kind in _kinds_of(path):
            _add(sources, kind.name, _constant(kind), f"the plug-in file {path}")
    return EngineRegistry(sources)


def check_kind(kind: object, origin: str) -> EngineKind:
    """Return the object if it is an engine kind that this version can use; raise DefinitionError that says why not."""
    if not isinstance(kind, EngineKind):
        raise DefinitionError(
            f"{origin} is no engine kind but {type(kind).__name__}", hint="offer a pipelines.kind.EngineKind"
        )
    if kind.api != API:
        raise DefinitionError(f"{origin} is made for api {kind.api}; this version of Tidegate speaks api {API}")
    if not kind.name.isidentifier():
        raise DefinitionError(f"{origin} has the unusable name {kind.name!r}", hint="use letters, digits and _")
    if not (_is_options(kind.options)):
        raise DefinitionError(
            f"{origin} has options that are no EngineOptions", hint="extend pipelines.kind.EngineOptions"
        )
    return kind


def _is_options(options: object) -> bool:
    return isinstance(options, type) and issubclass(options, EngineOptions)


def load_plugin(path: Path) -> Any:
    """Import a plug-in file under a name of its own; the same file gives the same module. Raises DefinitionError."""
    path = path.resolve()
    name = f"tidegate_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DefinitionError(f"the plug-in file {path} is no Python file that can be read", "service.plugins")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        said = f"the plug-in file {path} cannot be imported: {type(error).__name__}: {error}"
        raise DefinitionError(said, "service.plugins") from error
    return module


def _kinds_of(path: Path) -> list[EngineKind]:
    offered = getattr(load_plugin(path), "engines", ())
    if not isinstance(offered, list | tuple):
        said = f"`engines` in the plug-in file {path} is no list"
        raise DefinitionError(said, "service.plugins", "write engines = [KIND, …]")
    return [check_kind(kind, f"an entry of `engines` in {path}") for kind in offered]


def _add(sources: dict[str, Source], name: str, source: Source, origin: str) -> None:
    if name in sources:
        raise DefinitionError(
            f"{origin} offers an engine {name!r}, which there is already", "service.plugins", "rename it"
        )
    sources[name] = source


def _importer(reference: str) -> Source:
    def load() -> EngineKind:
        module, _, attribute = reference.partition(":")
        return check_kind(getattr(importlib.import_module(module), attribute), reference)

    return load


def _entry_loader(entry: EntryPoint) -> Source:
    def load() -> EngineKind:
        try:
            offered = entry.load()
        except Exception as error:
            said = f"the installed engine {entry.name} ({entry.value}) cannot be imported: {error}"
            raise DefinitionError(said, "engine") from error
        return check_kind(offered, f"the installed engine {entry.name} ({entry.value})")

    return load


def _constant(kind: EngineKind) -> Source:
    return lambda: kind
