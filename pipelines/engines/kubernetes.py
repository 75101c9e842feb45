"""The `kubernetes` engine: a task is a Job of one container, on a cluster that a team has.

In flow an image, its command and environment (with the propagation variables); out flow the container's log as it is
printed and, at its end, the output that `output` asks for. The Job's name is made of the engine key: creating it twice
is refused by the cluster, and after a crash it is found by that name and followed on, its log from the beginning. With
`pipes` the container is told and heard in the words of Dagster Pipes, through its environment and its log.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field

from pipelines.capture import Capture
from pipelines.datasets.naming import namer
from pipelines.errors import Ambiguous, LeaseLost, TaskFailed
from pipelines.kind import EngineKind, EngineOptions, EngineSettings, said_of
from pipelines.kubernetes_api import Cluster, Missing, Taken
from pipelines.kubernetes_jobs import KEY_LABEL, JobSpec, Waiting, job_name, judge, manifest
from pipelines.kubernetes_logs import PodLog
from pipelines.pipes import (
    CONTEXT,
    MESSAGES,
    PipesInbox,
    PipesOptions,
    assets_of,
    context_of,
    encode,
    pipes_options,
)
from pipelines.pipes_verdict import with_reports
from pipelines.ports import TaskContext, TaskResult
from sensors.units import Duration

_LOG_WITHIN = 10.0  # seconds that the log has to end once the Job has
NOT_STARTED = "not_started"
_LONGEST = 7 * 86_400.0


class KubernetesOptions(EngineOptions):
    """One Job. `template` is laid over its pod template: volumes, node selectors, tolerations, side-cars.

    `kubeconfig` and `context` are kubectl's; without them the pod that the service runs in, else kubectl's own file.
    `start_within` bounds how long the pod may be unable to start (no image, no node). The Job is kept for `keep` after
    its end. `output` as the engine `command` has it, of the container's log.
    """

    image: str
    command: tuple[Any, ...] = ()
    args: tuple[Any, ...] = ()
    env: Mapping[str, Any] = Field(default_factory=dict)
    namespace: str = Field(default="default", pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|\$\{\{.*\}\})$")
    resources: Mapping[str, Any] = Field(default_factory=dict)
    service_account: str | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    template: Mapping[str, Any] = Field(default_factory=dict)
    kubeconfig: str | None = None
    context: str | None = None
    start_within: Duration = 600.0
    keep: Duration = 3600.0
    output: Literal["none", "text", "json", "last_line_json"] = "none"
    pipes: Annotated[PipesOptions | None, BeforeValidator(pipes_options)] = None


@dataclass(slots=True)
class _Followed:
    """One Job that this process follows."""

    options: KubernetesOptions
    capture: Capture
    inbox: PipesInbox | None
    log: PodLog | None = None
    reading: asyncio.Task[None] | None = None
    stuck_since: float | None = None
    said: set[str] = field(default_factory=set)


class KubernetesEngine:
    """Creates Jobs and follows them. One client per cluster, made with the first task."""

    survives = True
    dedupes = True
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._clusters: dict[tuple[str | None, str | None], Cluster] = {}
        self._followed: dict[str, _Followed] = {}

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        options = _options(context)
        name = job_name(context.task_run.engine_key or context.task_run.uid)
        left = context.deadline - self._settings.clock.monotonic()
        job = manifest(_spec(options, context), context, name, _LONGEST if left == inf else max(1.0, left))
        cluster = self._cluster(options)
        await cluster.ready()
        if not context.held():
            raise LeaseLost(f"the lease on run {context.run.uid} ended before the job was created")
        try:
            await cluster.call("POST", _jobs(options), job)
        except Taken:
            if not await self._ours(options, name):
                said = f"there is a job {name} in {options.namespace} that is not ours; delete it"
                raise TaskFailed(said, "taken", retryable=False) from None
        except Missing as error:
            raise TaskFailed(
                f"there is no namespace {options.namespace}: {error}", "refused", retryable=False
            ) from None
        return _handle(options, name)

    async def find(self, context: TaskContext) -> str | None:
        options = _options(context)
        name = job_name(context.task_run.engine_key or context.task_run.uid)
        return _handle(options, name) if await self._ours(options, name) else None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        followed = self._followed.get(handle)
        if followed is None:
            options = _options(context)
            inbox = None if options.pipes is None else PipesInbox(assets_of(options.pipes, context), context.log)
            followed = self._followed[handle] = _Followed(options, Capture(options.output), inbox)
        done = True
        try:
            result = await self._look(context, handle, followed)
            done = result is not None
        except Ambiguous:
            done = False
            raise
        finally:
            if done:
                await self._forget(handle)
        return result

    async def cancel(self, context: TaskContext, handle: str) -> None:
        try:
            await self._delete(_options(context), orjson.loads(handle)["name"])
        finally:
            await self._forget(handle)

    async def close(self) -> None:
        for handle in list(self._followed):
            await self._forget(handle)
        clusters, self._clusters = list(self._clusters.values()), {}
        for cluster in clusters:
            await cluster.close()

    async def _look(self, context: TaskContext, handle: str, followed: _Followed) -> TaskResult | None:
        """Ask how the Job stands; its log is followed beside."""
        options = followed.options
        name = orjson.loads(handle)["name"]
        cluster = self._cluster(options)
        try:
            job = await cluster.call("GET", f"{_jobs(options)}/{name}")
        except Missing:
            said = f"job {name} is gone from the cluster before its end was seen; was it deleted by hand?"
            raise TaskFailed(said, "lost") from None
        listed = await cluster.call("GET", _pods(options), query={"labelSelector": f"{KEY_LABEL}={name}"})
        pods = sorted(listed.get("items", ()), key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))[-1:]
        if pods and followed.log is None:
            self._read(cluster, context, followed, str(pods[0]["metadata"]["name"]))
        end: TaskResult | TaskFailed
        try:
            verdict = judge(job, pods)
            if isinstance(verdict, Waiting):
                self._mind(context, followed, verdict)
                return None
            end = TaskResult()
        except TaskFailed as failure:
            if failure.kind == NOT_STARTED:
                await self._delete(options, name)  # or it would start after all, beside the next attempt
                raise
            end = failure
        return await self._ended(context, followed, end)

    async def _ended(self, context: TaskContext, followed: _Followed, end: TaskResult | TaskFailed) -> TaskResult:
        """Read the log to its end; return what the attempt left."""
        if followed.log is not None:
            try:
                async with asyncio.timeout(_LOG_WITHIN):
                    await followed.log.ended.wait()
            except TimeoutError:
                context.log("engine", "the log did not end with the job: its last lines may be missing")
        if isinstance(end, TaskResult):
            try:
                end = TaskResult(output=followed.capture.value())
            except ValueError as error:
                said = f"the job succeeded, but {error}; see `output`"
                end = TaskFailed(said, "bad_output", retryable=False)
        if followed.inbox is not None:
            name = namer(self._settings.catalog, self._settings.service)
            return with_reports(end, followed.inbox, context, self._settings.clock.now(), name)
        if isinstance(end, TaskFailed):
            raise end
        return end

    def _read(self, cluster: Cluster, context: TaskContext, followed: _Followed, pod: str) -> None:
        """Follow the log of the Job's pod in the background."""

        def take(line: str) -> None:
            if followed.inbox is None or not followed.inbox.take(line):
                followed.capture.take(line.encode() + b"\n")
                context.log("stdout", line)

        def complain(text: str) -> None:
            context.log("engine", text)

        path = f"{_pods(followed.options)}/{pod}"
        followed.log = PodLog(cluster, path, self._settings.clock, take, complain)
        followed.reading = asyncio.get_running_loop().create_task(followed.log.follow())

    def _mind(self, context: TaskContext, followed: _Followed, waiting: Waiting) -> None:
        """Say once what keeps a pod from starting; fail when it goes on for too long."""
        now = self._settings.clock.monotonic()
        if not waiting.stuck:
            followed.stuck_since = None
            return
        reason = waiting.stuck.partition(":")[0]
        if reason not in followed.said:
            followed.said.add(reason)
            context.log("engine", f"the pod does not start: {waiting.stuck}")
        followed.stuck_since = followed.stuck_since if followed.stuck_since is not None else now
        if now - followed.stuck_since >= followed.options.start_within:
            said = f"the pod did not start within {followed.options.start_within:g} s: {waiting.stuck}"
            raise TaskFailed(said, NOT_STARTED)

    async def _delete(self, options: KubernetesOptions, name: str) -> None:
        """Delete a Job with its pods (the API's own default would leave them running)."""
        told = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        with contextlib.suppress(Missing):
            await self._cluster(options).call("DELETE", f"{_jobs(options)}/{name}", told)

    async def _ours(self, options: KubernetesOptions, name: str) -> bool:
        try:
            job = await self._cluster(options).call("GET", f"{_jobs(options)}/{name}")
        except Missing:
            return False
        return bool(job.get("metadata", {}).get("labels", {}).get(KEY_LABEL) == name)

    async def _forget(self, handle: str) -> None:
        followed = self._followed.pop(handle, None)
        if followed is not None and followed.reading is not None:
            followed.reading.cancel()
            await asyncio.wait([followed.reading])

    def _cluster(self, options: KubernetesOptions) -> Cluster:
        key = (options.kubeconfig, options.context)
        cluster = self._clusters.get(key)
        if cluster is None:
            path = None if options.kubeconfig is None else str(self._settings.base / options.kubeconfig)
            cluster = self._clusters[key] = Cluster(path, options.context)
        return cluster


def _options(context: TaskContext) -> KubernetesOptions:
    try:
        return KubernetesOptions.model_validate(context.options)
    except ValueError as error:
        said = f"the kubernetes task's options are wrong: {said_of(error)}"
        raise TaskFailed(said, "bad_options", retryable=False) from error


def _spec(options: KubernetesOptions, context: TaskContext) -> JobSpec:
    env = dict(options.env)
    if options.pipes is not None:
        env[CONTEXT] = encode({"data": context_of(options.pipes, context)})
        env[MESSAGES] = encode({"stdio": "stderr"})
    return JobSpec(
        image=options.image,
        command=[_word(word) for word in options.command],
        args=[_word(word) for word in options.args],
        env=env,
        resources=options.resources,
        service_account=options.service_account,
        labels=options.labels,
        annotations=options.annotations,
        template=options.template,
        keep=options.keep,
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _handle(options: KubernetesOptions, name: str) -> str:
    return orjson.dumps({"name": name, "namespace": options.namespace}, option=orjson.OPT_SORT_KEYS).decode()


def _jobs(options: KubernetesOptions) -> str:
    return f"/apis/batch/v1/namespaces/{options.namespace}/jobs"


def _pods(options: KubernetesOptions) -> str:
    return f"/api/v1/namespaces/{options.namespace}/pods"


KIND = EngineKind(
    name="kubernetes",
    help="Runs a container as a Kubernetes Job, found again by its name; its log is the task's, its end is the task's.",
    options=KubernetesOptions,
    build=KubernetesEngine,
    example="load: {engine: kubernetes, image: 'ghcr.io/acme/load:7', args: [--day, '${{ params.day }}'], pipes: true}",
)
