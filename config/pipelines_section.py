"""The section `pipelines`: a reference to Python, tasks in YAML, or one task written straight into the entry.

Task options are validated by their engine's model with references filled in, and kept as written: a run stores its
definition, so secrets stay references there. Templates in options are compiled for checking only. `defaults.task` is
merged into tasks that stand in YAML; a pipeline in Python says everything itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from config.merge import with_defaults
from config.pipeline_options import ParamOptions, PipelineOptions, TaskOptions
from config.pools_section import PoolOptions, in_pools
from config.problems import Path, known_names, steps
from config.reading import Reading, descend, shown
from config.sensors_section import check_name, sentence
from config.service_section import not_available, refuse_secrets
from config.task_conditions import check_conditions, needs_of
from config.typewalk import keys_of, secret_paths
from config.yaml import Items, Node, Scalar, Table
from pipelines.conditions import CONDITION_SCOPE, SLICE_SCOPE
from pipelines.deadlines import FinishBy
from pipelines.errors import DefinitionError, ParameterError
from pipelines.kind import EngineKind
from pipelines.pipeline import Param, PipelineDef
from pipelines.placing import placed
from pipelines.references import BadReference, whole_reference
from pipelines.task import Retries, TaskDef
from triggers.errors import RuleError

LATER: Final = frozenset({"checks", "for_each", "each"})
LoadPipelines = Callable[[Sequence[str], FilePath], Mapping[str, PipelineDef | DefinitionError]]


TASK_KEYS: Final = frozenset(keys_of(TaskOptions))
PIPELINE_KEYS: Final = frozenset(keys_of(PipelineOptions)) | {"python", "tasks"}
SINGLE_KEYS: Final = PIPELINE_KEYS - {"tags", "timeout"}  # of a one-task pipeline, what is not its task's


def read_pipelines(
    reading: Reading,
    engines: Mapping[str, EngineKind],
    load: LoadPipelines,
    pools: Mapping[str, PoolOptions] = MappingProxyType({}),
) -> dict[str, PipelineDef]:
    """Return the pipelines that can be used; whatever is wrong is reported. All references to Python load at once."""
    found: dict[str, PipelineDef] = {}
    python = _python(reading, load)
    defaults = reading.node(("defaults", "task"))
    if isinstance(defaults, Table):
        for key in defaults.entries:
            if key not in TASK_KEYS - {"engine", "needs"} and not key.startswith("x-"):
                where = ("defaults", "task", key)
                reading.problem(where, "not a default for tasks", known_names(key, TASK_KEYS), key=True)
    for name, node in reading.table(("pipelines",)).items():
        path: Path = ("pipelines", name)
        check_name(reading, path, "pipeline")
        if not isinstance(node, Table):
            reading.problem(path, f"{shown(node)} is not a map", "write `{python: module:name}` or `{engine: …}`")
            continue
        before = len(reading.report)
        pipeline = _pipeline(reading, path, node, defaults if isinstance(defaults, Table) else None, engines, python)
        if pipeline is not None:
            pipeline = in_pools(reading, path, pipeline, pools)
            _check_definition(reading, path, pipeline)
            if len(reading.report) == before:
                found[name] = pipeline
    return found


def parameter_names(reading: Reading, pipelines: Mapping[str, PipelineDef]) -> dict[str, tuple[str, ...] | None]:
    """Return the parameters of every named pipeline; None where any are taken or the pipeline has problems."""
    names: dict[str, tuple[str, ...] | None] = {}
    for name in reading.table(("pipelines",)):
        params = pipelines[name].params if name in pipelines else None
        names[name] = tuple(params) if params is not None else None
    return names


def _pipeline(
    reading: Reading,
    path: Path,
    node: Table,
    defaults: Table | None,
    engines: Mapping[str, EngineKind],
    python: Mapping[str, PipelineDef],
) -> PipelineDef | None:
    forms = [key for key in ("python", "tasks", "engine") if key in node.entries]
    if len(forms) != 1:
        what = f"says {' and '.join(f'`{form}`' for form in forms)}" if forms else "says nothing about its tasks"
        reading.problem(path, f"the pipeline {what}", "write one of `python:`, `tasks:` or `engine:`", key=True)
        return None
    single = forms[0] == "engine"
    chosen = {
        key: entry
        for key, entry in node.entries.items()
        if key not in {"python", "tasks"} and not (single and key not in SINGLE_KEYS)
    }
    options = reading.validate(PipelineOptions, path, Table(node.mark, chosen))
    if forms[0] == "python":
        loaded = python.get(str(path[-1]))
        return _adjusted(reading, path, options, loaded) if options is not None and loaded is not None else None
    if single:
        own = {k: e for k, e in node.entries.items() if k not in SINGLE_KEYS}
        tasks = [_task(reading, path, str(path[-1]), Table(node.mark, own), defaults, engines)]
    else:
        tasks = [
            _task(reading, (*path, "tasks", name), name, task, defaults, engines)
            for name, task in reading.table((*path, "tasks")).items()
        ]
    whole = [task for task in tasks if task is not None]
    if options is None or len(whole) < len(tasks):
        return None
    return _adjusted(reading, path, options, PipelineDef(name=str(path[-1]), tasks=tuple(whole)))


def _python(reading: Reading, load: LoadPipelines) -> dict[str, PipelineDef]:
    """Return the pipelines that stand in Python by the names of their entries; what cannot be loaded is reported."""
    references: dict[str, str] = {}
    for name, entry in reading.table(("pipelines",)).items():
        where = ("pipelines", name, "python")
        node = reading.node(where)
        if isinstance(entry, Table) and not {"engine", "tasks"}.isdisjoint(entry.entries):
            continue  # reported as a whole
        if isinstance(node, Scalar) and isinstance(node.value, str):
            references[name] = reading.data(node, where)
        elif node is not None:
            reading.problem(where, f"{shown(node)} is no reference to Python", 'write "package.module:name"')
    loaded = load(sorted(set(references.values())), reading.base) if references else {}
    found: dict[str, PipelineDef] = {}
    for name, reference in references.items():
        answer = loaded[reference]
        if isinstance(answer, DefinitionError):
            reading.problem(("pipelines", name, "python"), str(answer), answer.hint)
        else:
            found[name] = replace(answer, name=name)
    return found


def _adjusted(reading: Reading, path: Path, options: PipelineOptions, pipeline: PipelineDef) -> PipelineDef:
    """Lay what the entry says over a pipeline."""
    changes: dict[str, Any] = {}
    if options.params is not None:
        changes["params"] = {name: _param(reading, path, name, param) for name, param in options.params.items()}
    for name in ("concurrency", "max_tasks", "timeout"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.deadlines.start_within is not None:
        changes["start_within"] = options.deadlines.start_within
    if options.deadlines.finish_by is not None:
        changes["finish_by"] = str(FinishBy(**options.deadlines.finish_by.model_dump()))
    if options.tags:
        changes["tags"] = options.tags
    if options.on is not None:
        changes["tasks"] = tuple(placed(task, options.on) for task in pipeline.tasks)
    return replace(pipeline, **changes)


def _param(reading: Reading, path: Path, name: str, param: ParamOptions) -> Param:
    default = param.default
    if default is not None:
        from pipelines.params import coerce

        try:
            default = coerce(name, param.type, default)
        except ParameterError as error:
            reading.problem((*path, "params", name, "default"), str(error), f"write a default of type {param.type}")
    return Param(type=param.type, required=param.required, default=default)


def _task(
    reading: Reading, path: Path, name: str, node: Node, defaults: Table | None, engines: Mapping[str, EngineKind]
) -> TaskDef | None:
    if not isinstance(node, Table):
        reading.problem(path, f"{shown(node)} is not a map", "write `{engine: NAME, …}`")
        return None
    if path[-2:-1] == ("tasks",):
        check_name(reading, path, "task")
    before = len(reading.report)
    entry = node.entries.get("engine")
    written = entry.node.text if entry is not None and isinstance(entry.node, Scalar) else ""
    engine = engines.get(written)
    if entry is None:
        reading.problem((*path, "engine"), "`engine` is missing", known_names("", engines, what="write one of"))
    elif engine is None:
        reading.problem((*path, "engine"), f"there is no engine `{written}`", known_names(written, engines))
    known = set(keys_of(engine.options)) - TASK_KEYS if engine is not None else set()
    later = [key for key in node.entries if key in LATER and key not in known]
    for key in later:
        reading.problem((*path, key), *not_available(key), key=True)
    own = {key: item for key, item in node.entries.items() if key in TASK_KEYS}
    rest = {k: e for k, e in node.entries.items() if k not in TASK_KEYS and k not in later and not k.startswith("x-")}
    common = Table(node.mark, own)
    if defaults is not None:
        common = with_defaults(common, defaults, sorted(TASK_KEYS - {"engine", "needs"}))
    options = reading.validate(TaskOptions, path, common) if entry is not None else None
    if options is not None:
        check_conditions(reading, path, options.when, options.partitions)
    scope = SLICE_SCOPE if "partitions" in node.entries or "per" in node.entries else CONDITION_SCOPE
    specific = _engine_options(reading, path, Table(node.mark, rest), engine, scope)
    if options is None or len(reading.report) > before:
        return None
    return TaskDef(
        name=name,
        engine=options.engine,
        options=specific,
        needs=needs_of(options.needs, options.per),
        upstream=options.upstream,
        on_failure=options.on_failure,
        retries=Retries(**options.retries.model_dump()),
        timeout=options.timeout,
        outputs=options.outputs,
        inputs=options.inputs,
        tags=options.tags,
        when=options.when,
        partitions=options.partitions,
        per=options.per,
        require=options.require,
        max_parallel=options.max_parallel,
        pools=() if options.pool is None else (options.pool,),
        retry_on=options.retry_on,
        never_retry_on=options.never_retry_on,
        timeout_all=options.timeout_all,
    )


def _engine_options(
    reading: Reading, path: Path, node: Table, engine: EngineKind | None, scope: Sequence[str]
) -> dict[str, Any]:
    """Return a task's engine options as written; whole references of secret fields become `${…}` ones."""
    written: dict[str, Any] = _as_written(node)
    if engine is None:
        return written
    reading.validate(engine.options, path, node)
    secrets = list(secret_paths(engine.options, written))
    open_ones = {key: entry for key, entry in node.entries.items() if (key,) not in secrets}
    refuse_secrets(reading, Table(node.mark, open_ones), path)
    for place in secrets:
        found, leaf = descend(node, place)
        if found == len(place) and isinstance(leaf, Scalar):
            _embrace(written, place, leaf.text)
    _check_templates(reading, node, path, scope)
    return written


def _as_written(node: Node) -> Any:
    if isinstance(node, Table):
        return {key: _as_written(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [_as_written(item) for item in node.items]
    return node.value


def _embrace(data: Any, place: Path, text: str) -> None:
    try:
        reference = whole_reference(text)
    except BadReference:  # reported when the field was validated
        return
    if reference is not None:
        for step in place[:-1]:
            data = data[step]
        data[place[-1]] = f"${{{text}}}"


def _check_templates(reading: Reading, node: Node, path: Path, scope: Sequence[str]) -> None:
    """Compile every text that holds `${{ … }}`, to find what is wrong with it now."""
    if isinstance(node, Table):
        for key, entry in node.entries.items():
            _check_templates(reading, entry.node, (*path, key), scope)
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            _check_templates(reading, item, (*path, index), scope)
    elif isinstance(node.value, str) and "${{" in node.value:
        from triggers.template import compile_template

        try:
            compile_template(node.value, scope=scope)
        except RuleError as error:
            reading.problem(path, sentence(error), error.hint)


def _check_definition(reading: Reading, path: Path, pipeline: PipelineDef) -> None:
    from pipelines.graph import check_definition

    for error in check_definition(pipeline):
        inside: Sequence[str | int] = steps(error.path)
        place: Path = path
        for step in inside:  # the one task of a short entry, and tasks in Python, have no place of their own
            candidate = (*place, step)
            if reading.node(candidate) is not None:
                place = candidate
        reading.problem(place, str(error), error.hint)
