"""OpenLineage ids and names of our runs: what is handed to engines as their parent, and what events are projected
under.

Ids follow from the ledger alone, so handing over, emitting and emitting again after a restart always say the same. A
run is the job `{pipeline}` in the service's namespace, a task of it `{pipeline}.{task}`. All functions are pure.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pipelines.run import Run, TaskRun

PRODUCER = "https://github.com/tidegate/tidegate"
PARENT_SCHEMA = "https://openlineage.io/spec/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_id(uid: str, created_at: int) -> UUID:
    """Return the OpenLineage run id of the thing named `uid`, made at `created_at` (UTC microseconds).

    The same as `openlineage.client.uuid.generate_static_uuid` gives for that instant and the uid's bytes: a version 7
    UUID (RFC 9562) whose random bits come from a SHA-1 of both, so that the same row always has the same id.
    """
    instant = _EPOCH + timedelta(microseconds=created_at)
    digest = hashlib.sha1(instant.isoformat().encode() + uid.encode(), usedforsecurity=False).digest()
    low = int.from_bytes(digest, "big") >> 84
    value = ((created_at // 1000 & 0xFFFF_FFFF_FFFF) << 80) | low
    value = value & ~(0xF000 << 64) | 7 << 76
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    return UUID(int=value)


def job_name(pipeline: str, task: str | None = None) -> str:
    """Return the job's name of a pipeline, or of one of its tasks."""
    return pipeline if task is None else f"{pipeline}.{task}"


def task_run_id(run: Run, task_run: TaskRun) -> UUID:
    """Return the run id of a task run: it belongs to the instant of its run."""
    return run_id(task_run.uid, run.created_at)


def parent_facet(run: Run, namespace: str, task_run: TaskRun | None = None) -> Mapping[str, Any]:
    """Return what a child's `parent` facet holds, without `_producer` and `_schemaURL`: `run`, `job` and `root`.

    The parent is the task run if one is given, else the run; the root is always the run.
    """
    root = {
        "run": {"runId": str(run_id(run.uid, run.created_at))},
        "job": {"namespace": namespace, "name": job_name(run.pipeline)},
    }
    if task_run is None:
        return {**root, "root": root}
    return {
        "run": {"runId": str(task_run_id(run, task_run))},
        "job": {"namespace": namespace, "name": job_name(run.pipeline, task_run.task)},
        "root": root,
    }


def legacy_parent_id(parent: Mapping[str, Any]) -> str | None:
    """Return `namespace/job/uuid` for tools older than `OPENLINEAGE_CONTEXT`.

    None when namespace or job hold a `/`: those tools split into exactly three parts, a wrong one is worse than none.
    """
    namespace, name, uuid = parent["job"]["namespace"], parent["job"]["name"], parent["run"]["runId"]
    if "/" in namespace or "/" in name:
        return None
    return f"{namespace}/{name}/{uuid}"
