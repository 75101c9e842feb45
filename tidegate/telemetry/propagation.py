"""What an engine is handed so that its own traces and lineage hang below our task: environment variables and headers.

Names in the environment are normalised as OpenTelemetry's environment carriers demand (`TRACEPARENT`). Whoever starts
a process removes all of `STALE` from the environment it copies first: injecting replaces names, it does not remove
what an outer trace left behind. There is no baggage: it would leak to third parties whom engines call.
"""

from collections.abc import Callable, Mapping

import orjson

from pipelines.run import Run, TaskRun
from tidegate.lineage.openlineage import legacy_parent_id, parent_facet

STALE = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")

Propagate = Callable[[Run, TaskRun], tuple[Mapping[str, str], Mapping[str, str]]]


def environment_name(name: str) -> str:
    """Normalise a propagation field's name: upper case, anything but letters, digits and `_` becomes `_`. Pure."""
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character == "_") else "_" for character in name
    )
    if not plain:
        return "_"
    return f"_{plain.upper()}" if plain[0].isdigit() else plain.upper()


def environ_and_headers(
    run: Run, task_run: TaskRun, namespace: str = "tidegate"
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (environment, headers) of one attempt. `namespace` is the OpenLineage namespace of our jobs. Pure.

    The context is the attempt's own span, or RUN's if the attempt has none yet; without either there is no traceparent.
    """
    environ = {
        "TIDEGATE_RUN": run.uid,
        "TIDEGATE_PIPELINE": run.pipeline,
        "TIDEGATE_TASK": task_run.task,
        "TIDEGATE_TASK_RUN": task_run.uid,
        "TIDEGATE_ATTEMPT": str(task_run.attempt),
    }
    headers: dict[str, str] = {}
    context = task_run.span or run.run_span
    if context is not None:
        headers["traceparent"] = context
    environ.update({environment_name(name): value for name, value in headers.items()})
    parent = parent_facet(run, namespace, task_run)
    environ["OPENLINEAGE_CONTEXT"] = orjson.dumps({"parent": parent}).decode()
    legacy, root = legacy_parent_id(parent), legacy_parent_id(parent["root"])
    if legacy is not None and root is not None:
        environ["OPENLINEAGE_PARENT_ID"] = legacy
        environ["OPENLINEAGE_ROOT_PARENT_ID"] = root
    return environ, headers


def propagator(namespace: str) -> Propagate:
    """Return `environ_and_headers` for one namespace: what the dispatcher is handed."""
    return lambda run, task_run: environ_and_headers(run, task_run, namespace)
