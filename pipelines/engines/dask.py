"""The `dask` engine: the same Python functions as `python` calls, in warm processes of the workers of a Dask cluster.

In flow what `pipelines.workers.function_task` makes of a task; out flow log lines as they come, and the same results.
The work outlives this service: a new holder finds it on the scheduler under the attempt's key. Modules are imported by
name on the workers, from `base` there. Values that are too large for the ledger go through `spool`, a folder that
service and workers share; without one they are sent along, up to 64 MiB.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipelines.datasets.values import handles_in
from pipelines.errors import Ambiguous, LeaseLost, TaskFailed
from pipelines.kind import EngineKind, EngineOptions, EngineSettings
from pipelines.ports import TaskContext, TaskResult
from pipelines.workers.function_task import FunctionOptions, make_job, read_answer, read_options, time_left
from pipelines.workers.pool import Outcome

if TYPE_CHECKING:
    from pipelines.dask_cluster import Cluster

STANDARD = "DASK_SCHEDULER_ADDRESS"  # the environment variable that Dask's own clients read
DEFAULT = "dask"  # the connection that is meant when none is named


class DaskConnection(EngineOptions):
    """An entry of `connections` of kind `dask`."""

    kind: str = "dask"
    scheduler: str
    spool: str | None = None
    base: str | None = None
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""


class DaskOptions(FunctionOptions):
    """A function task on a Dask cluster. `scheduler` is its address, or `connection` names an entry of `connections`.

    Neither: the connection `dask`, else the environment's DASK_SCHEDULER_ADDRESS. `base` is where modules are found on
    the workers (empty: the same folder as here). `spool` is a folder that service and workers share. `resources` are
    Dask's: how much of what a worker must have free.
    """

    scheduler: str | None = Field(default=None, pattern=r"^(tcp|tls|ucx|ws|wss)://|^\$\{")
    connection: str | None = None
    base: str | None = None
    spool: str | None = None
    resources: Mapping[str, float] = Field(default_factory=dict)


class DaskEngine:
    """Runs functions on Dask clusters; a client for each scheduler, made with its first task."""

    survives = True
    dedupes = True
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._clusters: dict[DaskConnection, Cluster] = {}

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        options: DaskOptions = read_options(DaskOptions, context, self._settings.base)
        where = self._where(options)
        cluster = await self._cluster(where)
        payload = await asyncio.to_thread(self._payload, context, options, where, cluster.topic)
        from pipelines.dask_cluster import Unreachable

        try:
            await cluster.connect()
        except Unreachable as error:
            raise TaskFailed(f"{error}; nothing was submitted. Check `scheduler`", "connect") from error
        if not context.held():
            raise LeaseLost(f"the lease on run {context.run.uid} ended before the task was submitted")
        try:
            await cluster.submit(_key(context), payload, options.resources)
        except Unreachable as error:
            raise Ambiguous(str(error)) from error
        return _key(context)

    async def find(self, context: TaskContext) -> str | None:
        cluster = await self._cluster_of(context)
        from pipelines.dask_cluster import Unreachable

        try:
            return _key(context) if await cluster.knows(_key(context)) else None
        except Unreachable as error:
            raise Ambiguous(str(error)) from error

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        cluster = await self._cluster_of(context)
        from pipelines.dask_cluster import Forgotten, Unreachable

        try:
            answer = await cluster.follow(handle, context.log)
        except Unreachable as error:
            raise Ambiguous(str(error)) from error
        except Forgotten:
            raise TaskFailed(
                "the Dask scheduler knows nothing of the task any more: it was restarted, or somebody removed the task",
                "lost_worker",
            ) from None
        except Exception as error:
            raise TaskFailed(_told(error), "dask") from error
        return await self._result(context, answer)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        cluster = await self._cluster_of(context)
        from pipelines.dask_cluster import Unreachable

        try:
            await cluster.call_off(handle)
        except Unreachable as error:
            context.log("engine", f"the task could not be called off: {error}")

    async def close(self) -> None:
        clusters = list(self._clusters.values())
        self._clusters.clear()
        await asyncio.gather(*(cluster.close() for cluster in clusters))

    async def _cluster_of(self, context: TaskContext) -> "Cluster":
        options: DaskOptions = read_options(DaskOptions, context, self._settings.base)
        return await self._cluster(self._where(options))

    async def _cluster(self, where: DaskConnection) -> "Cluster":
        if where not in self._clusters:
            try:
                module = await asyncio.to_thread(_import)
            except ImportError as error:
                raise TaskFailed(
                    f"the engine `dask` needs {error.name}; install tidegate[dask]", "missing", retryable=False
                ) from error
            place = module.Place(where.scheduler, where.tls_ca, where.tls_cert, where.tls_key)
            self._clusters.setdefault(where, module.Cluster(place, f"tidegate-{self._settings.service}"))
        return self._clusters[where]

    def _where(self, options: DaskOptions) -> DaskConnection:
        """Return the cluster that a task's options mean."""
        scheduler = options.scheduler
        entry: Mapping[str, Any] | None = None
        if scheduler is None:
            name = options.connection or DEFAULT
            entry = self._settings.connections.get(name)
            if entry is None and options.connection is None:
                scheduler = os.environ.get(STANDARD)
            if entry is None and scheduler is None:
                raise TaskFailed(
                    f"no Dask scheduler is known: there is no connection {name!r}; "
                    f"write `scheduler: tcp://host:8786` or `connections: {{{name}: {{kind: dask, scheduler: …}}}}`",
                    "bad_options",
                    retryable=False,
                )
        try:
            where = (
                DaskConnection.model_validate(entry) if entry is not None else DaskConnection(scheduler=scheduler or "")
            )
        except ValueError as error:
            raise TaskFailed(f"the connection to Dask is wrong: {error}", "bad_options", retryable=False) from error
        changes = {name: value for name in ("base", "spool") if (value := getattr(options, name)) is not None}
        return where.model_copy(update=changes)

    def _payload(self, context: TaskContext, options: DaskOptions, where: DaskConnection, topic: str) -> dict[str, Any]:
        """Return what travels to the worker, with the files that only we can read."""
        from pipelines.dask_node import MAX_PARCEL, read_parcel

        settings = self._settings
        job = make_job(context, options, settings)
        spool = where.spool
        job = replace(
            job,
            base=where.base or job.base,
            values=str(Path(spool, "values", context.run.uid)) if spool else "",
            code=str(Path(spool, "code")) if spool else "",
        )
        parcels: dict[str, bytes] = {}
        for name, output in job.upstream.items():
            for handle in handles_in(output):
                if spool and Path(handle["path"]).is_relative_to(spool):
                    continue
                try:
                    left = MAX_PARCEL - sum(map(len, parcels.values()))
                    parcels[handle["path"]] = read_parcel(Path(handle["path"]), left)
                except FileNotFoundError as error:
                    raise TaskFailed(
                        f"what task {name!r} handed on is gone from {handle['path']}; "
                        "resume the run, which makes it anew",
                        "value",
                        retryable=False,
                    ) from error
        return {
            "key": _key(context),
            "topic": topic,
            "job": asdict(job),
            "parcels": parcels,
            "limit": MAX_PARCEL,
            "seconds": time_left(context, settings.clock),
            "memory": options.memory or settings.task_memory,
            "tasks_per_worker": settings.tasks_per_worker,
            "worker_memory": settings.worker_memory,
        }

    async def _result(self, context: TaskContext, answer: dict[str, Any]) -> TaskResult:
        parcel = answer.get("parcel")
        if parcel is not None:
            answer = {**answer, "output": await asyncio.to_thread(self._placed, context, answer["output"], parcel)}
        whole = {"checks": [], "datasets": [], "retry_after": None, **answer}
        if answer.get("host"):
            context.log("engine", f"ran on the Dask worker at {answer['host']}")
        return read_answer(
            Outcome(whole, answer.get("cpu") or 0.0, answer.get("rss") or 0),
            context.task_run.task,
            self._settings.clock.now(),
        )

    def _placed(self, context: TaskContext, output: Any, parcel: bytes) -> Any:
        """Keep a value that came along as if it had been made here."""
        from pipelines.datasets.values import moved, place, values_folder

        def placed(handle: Mapping[str, Any]) -> str:
            path = values_folder(self._settings.state.absolute(), context.run.uid) / Path(handle["path"]).name
            place(path, lambda temporary: temporary.write_bytes(parcel))
            return str(path)

        return moved(output, placed)


def _key(context: TaskContext) -> str:
    return context.task_run.engine_key or context.task_run.uid


def _import() -> Any:
    from pipelines import dask_cluster

    return dask_cluster


def _told(error: Exception) -> str:
    """Say what a failure of the cluster itself means."""
    said = f"the Dask cluster could not run the task: {type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return f"{said}; its workers need Tidegate in the same version as this service"
    return said


KIND = EngineKind(
    name="dask",
    help="Calls a Python function on a Dask cluster, as `python` does here: isolated, logged, retried, called off.",
    options=DaskOptions,
    build=DaskEngine,
    example="train: {engine: dask, scheduler: 'tcp://scheduler:8786', function: 'shop.models:train'}",
)
