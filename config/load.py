"""Loading: files, overlays and environment become one frozen ServiceConfig, or ConfigProblems with all that is wrong.

Nothing is started and nothing connects. Files of Python (pipelines, plug-ins) are imported, since their names and
parameters belong to the check. The hash is made of the merged text as written: no secret's value enters it.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import config
from config.alerts_section import read_alerts
from config.checks_section import settle_checks
from config.cron_triggers import TYPES as TICKS
from config.cron_triggers import take_crons
from config.datasets_section import check_references, read_datasets
from config.function_tasks import check_functions
from config.kinds import Kinds, by_name, engine_registry, sensor_registry
from config.merge import merge, merge_layer
from config.model import Dispatch, Limits, Retention, ServiceConfig
from config.pipelines_section import LoadPipelines, parameter_names, read_pipelines
from config.pools_section import read_pools
from config.problems import ConfigProblems, Mark, Report, known_names
from config.reading import Reading, place_of
from config.sensors_section import emitted_types, read_sensors
from config.service_section import (
    ServiceOptions,
    absolute_store,
    read_connections,
    read_service,
    read_telemetry,
)
from config.triggers_section import canonical, digest, read_triggers
from config.yaml import MAX_BYTES, Scalar, Table, read_yaml
from pipelines.errors import DefinitionError
from pipelines.kind import EngineKind
from pipelines.pipeline import PipelineDef
from pipelines.signatures import read_signatures
from sensors.kind import SensorKind

SECTIONS: Final = (
    "service",
    "telemetry",
    "alerts",
    "connections",
    "defaults",
    "sensors",
    "triggers",
    "datasets",
    "pools",
    "pipelines",
)


def assert_own_package() -> None:
    """Raise RuntimeError when the package `config` in use is not the one beside `tidegate/` (the name is common)."""
    spec = find_spec("tidegate")
    ours = Path((spec.origin if spec is not None else None) or "").resolve().parent.parent / "config"
    used = Path(config.__file__ or "").resolve().parent
    if used != ours:
        raise RuntimeError(
            f"another package named `config` is in the way ({used}); "
            f"start with `python -m tidegate` from {ours.parent}, or remove the other one from this environment",
        )


def load_config(
    paths: Sequence[Path],
    overlays: Sequence[Path] = (),
    *,
    environ: Mapping[str, str],
    sensors: Kinds[SensorKind] | None = None,
    engines: Kinds[EngineKind] | None = None,
    load: LoadPipelines | None = None,
    resolve_secrets: bool = True,
) -> ServiceConfig:
    """Return the configuration that the files hold; raises ConfigProblems with every problem of all of them.

    `paths` are one layer, merged left to right; each overlay is a layer on top. `sensors` and `engines` are registries
    (or lists, or maps) of kinds to use instead of the built-in ones and the plug-ins; `load` stands in for
    `pipelines.loading.load_pipelines`. Without `resolve_secrets`, what references name need not be there: placeholders
    take its place.
    """
    names = [str(path) for path in (*paths, *overlays)]
    report = Report()
    root = _merged(paths, overlays, report)
    if root is None:
        raise ConfigProblems(report.sorted(names))
    reading = Reading(root, report, environ, paths[0].resolve().parent, strict=resolve_secrets)
    service = read_service(reading)
    reading.base = (reading.base / service.base).resolve()
    plugins = tuple((reading.base / plugin).resolve() for plugin in service.plugins)
    really = load is None
    if load is None:
        from pipelines.loading import load_pipelines

        load = load_pipelines
    sensor_kinds = by_name(sensor_registry(reading, plugins) if sensors is None else sensors)
    engine_kinds = by_name(engine_registry(reading, plugins) if engines is None else engines)
    imported: set[Path] = set()
    loaded = _sections(reading, service, sensor_kinds, engine_kinds, _noting(load, imported))
    if really:
        check_functions(reading, loaded["pipelines"], read_signatures)
    report.raise_if_any(names)
    read = {path.resolve() for path in (*paths, *overlays)} | {path.resolve() for path in reading.read} | set(plugins)
    read |= imported
    return ServiceConfig(base=reading.base, plugins=plugins, files=tuple(sorted(read)), **loaded)


def _noting(load: LoadPipelines, imported: set[Path]) -> LoadPipelines:
    """Return `load`, which notes in `imported` the files that pipelines came from: a change of them is a reload."""

    def noting(references: Sequence[str], base: Path) -> Mapping[str, PipelineDef | DefinitionError]:
        found = load(references, base)
        imported.update(getattr(found, "files", ()))
        return found

    return noting


def _sections(
    reading: Reading,
    service: ServiceOptions,
    sensors: Mapping[str, SensorKind],
    engines: Mapping[str, EngineKind],
    load: LoadPipelines,
) -> dict[str, Any]:
    """Read every section; return what ServiceConfig is made of."""
    _check_sections(reading)
    state = (reading.base / service.state_dir).resolve()
    connections = read_connections(reading)
    datasets = read_datasets(reading, connections)
    pools = read_pools(reading)
    pipelines = settle_checks(reading, read_pipelines(reading, engines, load, pools), datasets)
    check_references(reading, pipelines)
    written = digest(canonical(reading.root, 3), 64)
    crons = take_crons(reading, sensors)
    types = {**emitted_types(reading, sensors), **dict.fromkeys(crons, TICKS)}
    named = read_sensors(reading, sensors, service.name, connections)
    return {
        "name": service.name,
        "listen": service.listen,
        "admin_listen": service.admin_listen,
        "url": service.url,
        "store": absolute_store(service.store, reading.base, state),
        "hash": written,
        "state_dir": state,
        "retention": Retention(**service.retention.model_dump()),
        "limits": Limits(**service.limits.model_dump()),
        "dispatch": Dispatch(**service.dispatch.model_dump()),
        "network_allow": service.network.allow,
        "telemetry": read_telemetry(reading),
        "alerts": read_alerts(reading),
        "connections": connections,
        "datasets": datasets,
        "sensors": {**named, **{name: entry for name, entry in crons.items() if entry is not None}},
        "pools": {name: pool.limit for name, pool in pools.items()},
        "pipelines": pipelines,
        "triggers": read_triggers(reading, types, parameter_names(reading, pipelines)),
    }


def _merged(paths: Sequence[Path], overlays: Sequence[Path], report: Report) -> Table | None:
    """Read and merge all files; None when one of them is unreadable (what is wrong with each is reported)."""
    if not paths:
        raise ValueError("load_config needs at least one path")
    layer = [_file(path, report) for path in paths]
    above = [_file(path, report) for path in overlays]
    tables = [table for table in (*layer, *above) if table is not None]
    if len(tables) < len(layer) + len(above):
        return None
    merged = merge_layer(tables[: len(layer)], report)
    for overlay in tables[len(layer) :]:
        merged = merge(merged, overlay)
    return merged


def _file(path: Path, report: Report) -> Table | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        report.add(Mark(str(path), 1, 1), (), f"the file cannot be read ({reason})", "name a readable YAML file")
        return None
    return read_yaml(data, str(path), report)


def _check_sections(reading: Reading) -> None:
    _known(reading, reading.root.entries, (), SECTIONS)
    defaults = reading.table(("defaults",))
    _known(reading, defaults, ("defaults",), ("sensor", "task"))
    for name, node in defaults.items():
        if not isinstance(node, Table) and not (isinstance(node, Scalar) and node.value is None):
            reading.problem(("defaults", name), "not a map", "write `{key: value}`")


def _known(reading: Reading, keys: Iterable[str], path: tuple[str, ...], known: Sequence[str]) -> None:
    for key in keys:
        if key not in known and not key.startswith("x-"):
            mark = place_of(reading.root, (*path, key), key=True)
            reading.report.add(mark, (*path, key), "unknown key", known_names(key, known))
