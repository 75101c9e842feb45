"""What a Kubernetes Job says and is told, as plain JSON: the manifest of an attempt, and the verdict on a Job. Pure.

The Job's name is made of the engine key alone, so creating it again is refused by the cluster while it exists: that is
how one attempt never runs twice. Kubernetes itself retries nothing (`backoffLimit: 0`, `restartPolicy: Never`): the
pipeline's retries are attempts of their own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.ports import TaskContext
from pipelines.propagated import with_attempt

CONTAINER: Final = "main"
KEY_LABEL: Final = "tidegate.dev/key"
STUCK: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
_MARGIN: Final = 60  # seconds by which the cluster's own time-out comes after ours


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the task asks for, evaluated. `template` is laid over the pod template, deep."""

    image: str
    command: Sequence[str]
    args: Sequence[str]
    env: Mapping[str, Any]
    resources: Mapping[str, Any]
    service_account: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    template: Mapping[str, Any]
    keep: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Job that has not ended; `stuck` says in words what keeps its pod from starting, if anything does."""

    stuck: str = ""
    pod: str | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A Job that completed."""


def job_name(engine_key: str) -> str:
    """Return the name of the Job of an attempt: `tg-` and 40 hex digits, fit for names and label values."""
    return f"tg-{hashlib.sha256(engine_key.encode()).hexdigest()[:40]}"


def manifest(spec: JobSpec, context: TaskContext, name: str, seconds: float) -> dict[str, Any]:
    """Return the Job to create; `seconds` are left of the attempt's time."""
    given = {key: _text(value) for key, value in spec.env.items() if value is not None}
    environment = with_attempt(given, context)
    task_run = context.task_run
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
    }
    for key, value in (("command", spec.command), ("args", spec.args), ("resources", spec.resources)):
        if value:
            container[key] = dict(value) if isinstance(value, Mapping) else list(value)
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if spec.service_account:
        pod["serviceAccountName"] = spec.service_account
    labels = {**spec.labels, "app.kubernetes.io/managed-by": "tidegate", KEY_LABEL: name}
    annotations = {
        **spec.annotations,
        "tidegate.dev/run": context.run.uid,
        "tidegate.dev/pipeline": context.run.pipeline,
        "tidegate.dev/task": task_run.task,
        "tidegate.dev/attempt": str(task_run.attempt),
    }
    trace = context.environ.get("TRACEPARENT")
    if trace:
        annotations["tidegate.dev/traceparent"] = trace
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, int(seconds) + _MARGIN),
            "ttlSecondsAfterFinished": int(spec.keep),
            "template": laid_over(template, spec.template),
        },
    }


def laid_over(below: Any, above: Any) -> Any:
    """Return a value with another laid over it: maps deep, lists of named things by `name`, the rest replaced."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        both = {key: laid_over(below[key], above[key]) for key in above if key in below}
        return {**below, **above, **both}
    if _named(below) and _named(above):
        others = {item["name"]: item for item in above}
        kept = [laid_over(item, others.pop(item["name"])) if item["name"] in others else item for item in below]
        return [*kept, *others.values()]
    return above


def judge(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Waiting | Succeeded:
    """Return how a Job stands; raises TaskFailed or TaskTimedOut for one that failed, with what its pod tells."""
    conditions = {
        one.get("type"): one for one in job.get("status", {}).get("conditions") or () if one.get("status") == "True"
    }
    if "Complete" in conditions:
        return Succeeded()
    name = job.get("metadata", {}).get("name", "the job")
    failed = conditions.get("Failed")
    if failed is not None:
        if failed.get("reason") == "DeadlineExceeded":
            raise TaskTimedOut(f"job {name} took longer than its time and was stopped by the cluster")
        raise _failure(name, failed, pods)
    if "Suspended" in conditions:
        return Waiting(f"job {name} is suspended in the cluster")
    return Waiting(*_stuck(pods))


def _stuck(pods: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    for pod in pods:
        pod_name = pod.get("metadata", {}).get("name")
        status = pod.get("status", {})
        for container in _statuses(status):
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in STUCK:
                said = waiting.get("message") or "no reason given"
                return f"{waiting['reason']}: {said}", pod_name
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}", pod_name
        return "", pod_name
    return "", None


def _failure(name: str, condition: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> TaskFailed:
    """Return the failure in the words of the container that ended badly."""
    for pod in pods:
        if pod.get("status", {}).get("reason") == "Evicted":
            return TaskFailed(f"the pod of job {name} was evicted: {pod['status'].get('message', '')}", "evicted")
        for container in _statuses(pod.get("status", {})):
            ended = container.get("state", {}).get("terminated") or {}
            code = ended.get("exitCode")
            if not code:
                continue
            who = f"container {container.get('name', CONTAINER)} of job {name}"
            said = f": {ended['message']}" if ended.get("message") else ""
            if ended.get("reason") == "OOMKilled":
                return TaskFailed(f"{who} used more than its memory limit and was killed{said}", "memory")
            if code > 128:
                return TaskFailed(f"{who} was ended by signal {code - 128}{said}", "crashed")
            return TaskFailed(f"{who} ended with exit code {code}{said}", "exit_code")
    said = condition.get("message") or condition.get("reason") or "no reason given"
    return TaskFailed(f"job {name} failed: {said}", "job_failed")


def _statuses(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _named(items: Any) -> bool:
    return (
        isinstance(items, Sequence)
        and not isinstance(items, str)
        and bool(items)
        and all(isinstance(item, Mapping) and "name" in item for item in items)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
