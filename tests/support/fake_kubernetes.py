"""A small Kubernetes API: Jobs, their pods and logs, over real HTTP. A "container" is a process of this machine.

It keeps to what the API promises and clients build on: 409 for a name that is taken, `Status` objects for errors, label
selectors, conditions, `terminated` states, logs with time stamps and whole seconds in `sinceTime`, deletion with a
propagation policy. Images mean something: `none/…` cannot be pulled, `full/…` finds no node.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

TOKEN = "a-service-account"


@dataclass
class Pod:
    """One pod and the process that stands for its container."""

    manifest: dict[str, Any]
    lines: list[tuple[datetime, bytes]] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def more_than(self, lines: int) -> None:
        """Wait for another line, or the end."""
        async with self.grown:
            await self.grown.wait_for(lambda: len(self.lines) > lines or self.ended.is_set())


class FakeKubernetes:
    """State of the cluster. `faults` are answers that the next requests get instead (by `METHOD kind`)."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[tuple[str, str], Pod] = {}
        self.created: list[dict[str, Any]] = []
        self.deleted: list[tuple[str, str]] = []
        self.faults: dict[str, list[Callable[[], web.StreamResponse | str]]] = {}
        self.cut_logs_after: int | None = None
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def kubeconfig(self, folder: Path, token: str = TOKEN) -> Path:
        """Write a file as kubectl has it."""
        path = folder / "kubeconfig"
        path.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
            f"clusters: [{{name: c, cluster: {{server: '{self.url}'}}}}]\n"
            f"users: [{{name: u, user: {{token: {token}}}}}]\n"
            "contexts: [{name: here, context: {cluster: c, user: u}}]\n"
        )
        return path

    # -- the API ----------------------------------------------------------------------------------------------------
    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse strangers; hand out the faults that a test asked for."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return status(401, "Unauthorized", "Unauthorized")
        kind = "logs" if request.path.endswith("/log") else request.path.split("/namespaces/")[1].split("/")[1]
        waiting = self.faults.get(f"{request.method} {kind}")
        if waiting:
            answer = waiting.pop(0)()
            if answer == "after":
                await handler(request)
            if isinstance(answer, str):
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return answer
        made: web.StreamResponse = await handler(request)
        return made

    async def create(self, request: web.Request) -> web.StreamResponse:
        namespace, job = request.match_info["ns"], await request.json()
        if namespace == "absent":
            return status(404, "NotFound", f'namespaces "{namespace}" not found')
        name = job["metadata"]["name"]
        template = job["spec"]["template"]
        if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
            return status(
                422, "Invalid", 'Job is invalid: spec.template.spec.restartPolicy: Unsupported value: "Always"'
            )
        if (namespace, name) in self.jobs:
            return status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        self.created.append(job)
        job["status"] = {}
        self.jobs[namespace, name] = job
        self._spawn(self._run(namespace, name, job))
        return web.json_response(job, status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get((request.match_info["ns"], request.match_info["name"]))
        return missing(request) if job is None else web.json_response(job)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        key = (request.match_info["ns"], request.match_info["name"])
        if self.jobs.pop(key, None) is None:
            return missing(request)
        self.deleted.append(key)
        told = await request.json() if request.can_read_body else {}
        if told.get("propagationPolicy", "Orphan") != "Orphan":
            for pod in [pod for pod_key, pod in self.pods.items() if pod_key == key]:
                _kill(pod)
            self.pods.pop(key, None)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def list_pods(self, request: web.Request) -> web.StreamResponse:
        label, _, value = request.query.get("labelSelector", "").partition("=")
        found = [
            pod.manifest
            for (namespace, _name), pod in self.pods.items()
            if namespace == request.match_info["ns"] and pod.manifest["metadata"]["labels"].get(label) == value
        ]
        return web.json_response({"kind": "PodList", "items": found})

    async def log(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get((request.match_info["ns"], request.match_info["name"].removesuffix("-pod")))
        if pod is None:
            return missing(request)
        if pod.process is None:
            return status(400, "BadRequest", 'container "main" is waiting to start: ContainerCreating')
        since = request.query.get("sinceTime")
        start = None if since is None else datetime.fromisoformat(since).replace(microsecond=0)
        answer = web.StreamResponse()
        await answer.prepare(request)
        at = sent = 0
        while True:
            await pod.more_than(at)
            for moment, line in pod.lines[at:]:
                at += 1
                if start is not None and moment < start:
                    continue
                await answer.write(moment.isoformat().encode() + b" " + line + b"\n")
                sent += 1
                if self.cut_logs_after is not None and sent >= self.cut_logs_after:
                    self.cut_logs_after = None
                    assert request.transport is not None
                    request.transport.abort()
                    return answer
            if pod.ended.is_set() and at == len(pod.lines):
                return answer

    # -- the kubelet ------------------------------------------------------------------------------------------------
    async def _run(self, namespace: str, name: str, job: dict[str, Any]) -> None:
        template = job["spec"]["template"]
        container = template["spec"]["containers"][0]
        manifest = {
            "metadata": {
                "name": f"{name}-pod",
                "labels": dict(template["metadata"]["labels"]),
                "creationTimestamp": datetime.now(UTC).isoformat(),
            },
            "spec": template["spec"],
            "status": {},
        }
        pod = self.pods[namespace, name] = Pod(manifest)
        if container["image"].startswith("none/"):
            said = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
            manifest["status"] = {"containerStatuses": [{"name": "main", "state": {"waiting": said}}]}
            return
        if container["image"].startswith("full/"):
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
            manifest["status"] = {"conditions": [unscheduled]}
            return
        env = {one["name"]: one["value"] for one in container["env"]}
        argv = [*container.get("command", ()), *container.get("args", ())]
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={"PATH": os.defpath, **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        pod.process = process
        manifest["status"] = {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}
        assert process.stdout is not None
        while line := await process.stdout.readline():
            async with pod.grown:
                pod.lines.append((datetime.now(UTC), line.rstrip(b"\n")))
                pod.grown.notify_all()
        code = await process.wait()
        code = 128 - code if code < 0 else code
        oom = container["image"].startswith("greedy/")
        ended = {"exitCode": code, "reason": "OOMKilled" if oom else ("Completed" if code == 0 else "Error")}
        manifest["status"] = {"containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}
        kind, why = ("Complete", {}) if code == 0 else ("Failed", {"reason": "BackoffLimitExceeded"})
        job["status"] = {"conditions": [{"type": kind, "status": "True", **why}]}
        async with pod.grown:
            pod.ended.set()
            pod.grown.notify_all()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End every process."""
        for pod in self.pods.values():
            _kill(pod)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


def status(code: int, reason: str, message: str) -> web.Response:
    """Return an error as the API words it."""
    told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
    return web.json_response(told, status=code)


def missing(request: web.Request) -> web.Response:
    return status(404, "NotFound", f'"{request.match_info["name"]}" not found')


def _kill(pod: Pod) -> None:
    if pod.process is not None and pod.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pod.process.pid, signal.SIGKILL)


@asynccontextmanager
async def kubernetes() -> AsyncIterator[FakeKubernetes]:
    """Serve a cluster on a free loopback port."""
    cluster = FakeKubernetes()
    app = web.Application(middlewares=[cluster.guard])
    jobs, pods = "/apis/batch/v1/namespaces/{ns}/jobs", "/api/v1/namespaces/{ns}/pods"
    app.router.add_post(jobs, cluster.create)
    app.router.add_get(jobs + "/{name}", cluster.get)
    app.router.add_delete(jobs + "/{name}", cluster.delete)
    app.router.add_get(pods, cluster.list_pods)
    app.router.add_get(pods + "/{name}/log", cluster.log)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cluster.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield cluster
    finally:
        await cluster.stop()
        await runner.cleanup()
