"""The kinds that a configuration may use: built-in, installed, and those of its own plug-in files.

A plug-in that cannot be loaded is a problem at its entry in `service.plugins`; the others are used all the same, so
that one bad plug-in hides no other problem.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from config.reading import Reading
from pipelines.kind import EngineKind
from sensors.kind import SensorKind

_Kind = TypeVar("_Kind", SensorKind, EngineKind)
Kinds: TypeAlias = Iterable[_Kind] | Mapping[str, _Kind]  # a registry of either stage, or a plain collection


def by_name(kinds: Kinds[_Kind]) -> Mapping[str, _Kind]:
    """Return kinds by name; a map (which may load its kinds only when asked) is taken as it is."""
    return kinds if isinstance(kinds, Mapping) else {kind.name: kind for kind in kinds}


def sensor_registry(reading: Reading, plugins: Sequence[Path]) -> Kinds[SensorKind]:
    """Return all sensor kinds; plug-ins that cannot be used are reported."""
    from sensors.registry import load_registry

    return _gathered(reading, plugins, load_registry)


def engine_registry(reading: Reading, plugins: Sequence[Path]) -> Kinds[EngineKind]:
    """Return all engines; plug-ins that cannot be used are reported."""
    from pipelines.registry import load_registry

    return _gathered(reading, plugins, load_registry)


def _gathered(
    reading: Reading, plugins: Sequence[Path], load: Callable[[Sequence[Path]], Kinds[_Kind]]
) -> Kinds[_Kind]:
    try:
        return load(plugins)
    except Exception as error:  # noqa: BLE001 - whatever a plug-in raises is a problem of the configuration
        blamed = error
    good: list[Path] = []
    for index, plugin in enumerate(plugins):
        try:
            load([*good, plugin])
        except Exception as error:  # noqa: BLE001 - as above
            reading.problem(("service", "plugins", index), str(error))
        else:
            good.append(plugin)
    if len(good) < len(plugins):
        return load(good) if good else _without_plugins(reading, load)
    reading.problem(("service",), str(blamed), "remove the distribution, or install one that fits")
    return ()


def _without_plugins(reading: Reading, load: Callable[[Sequence[Path]], Kinds[_Kind]]) -> Kinds[_Kind]:
    try:
        return load(())
    except Exception as error:  # noqa: BLE001 - an installed distribution is at fault
        reading.problem(("service",), str(error), "remove the distribution, or install one that fits")
        return ()
