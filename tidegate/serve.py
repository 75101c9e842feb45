"""`tidegate serve`: configuration in, a listening service out, until a signal says stop.

SIGTERM or SIGINT stops softly: the doors answer 503, batches in hand become durable, attempts under way may end; a
second signal stops at once. A bad configuration never starts half a service: every problem is printed and the exit
code is 1.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import uvicorn

from config.load import assert_own_package, load_config
from config.model import ServiceConfig
from config.problems import ConfigProblems
from tidegate.api.door import Door
from tidegate.api.wire import wire
from tidegate.compose import compose
from tidegate.failpoints import make_fail_point
from tidegate.reload import watch_config
from tidegate.service import Service
from tidegate.store.tx import StoreError
from tidegate.telemetry.logs import setup_logging

_log = logging.getLogger("tidegate.serve")
PATIENCE = 30.0


def serve(paths: Sequence[Path], overlays: Sequence[Path] = ()) -> int:
    """Run the service until it is stopped; return the exit code."""
    assert_own_package()
    setup_logging(os.environ.get("TIDEGATE_LOG_FORMAT", "auto"), os.environ.get("TIDEGATE_LOG_LEVEL", "info"))  # type: ignore[arg-type]
    for talkative in ("alembic", "uvicorn.error", "watchfiles"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        config = load_config(paths, overlays, environ=os.environ)
    except ConfigProblems as problems:
        for problem in problems.problems:
            print(problem, file=sys.stderr)  # noqa: T201 - the answer to the person who started it
        return 1
    import uvloop

    # Switching between the loop and the writer's thread at the default of 5 ms would cost each commit several of them.
    sys.setswitchinterval(0.001)
    try:
        return uvloop.run(_serve(config, lambda: load_config(paths, overlays, environ=os.environ)))
    except StoreError as error:
        print(f"tidegate: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(config: ServiceConfig, load: Callable[[], ServiceConfig]) -> int:
    service, webhooks = await compose(config, package_version("tidegate"), make_fail_point(os.environ))
    door = Door(service, webhooks)
    http = wire(config.limits)
    servers = [_server(door.public if config.admin_listen else door.both, config.listen, http)]
    if config.admin_listen:
        servers.append(_server(door.admin, config.admin_listen, http))
    stop = asyncio.Event()
    _on_signals(stop)
    for server in servers:
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        if server.should_exit:
            await service.stop(0)
            return 1
    gc.collect()
    gc.freeze()  # what was built by now lives as long as the process: later collections need not look at it
    url = f"http://{config.admin_listen or config.listen}"
    _log.info("tidegate is ready on %s (store %s)", url, service.store.name, extra={"action": "ready", "url": url})
    ticking = [asyncio.create_task(server.main_loop()) for server in servers]
    watching = asyncio.create_task(_watch(config, load, service))
    await stop.wait()
    _log.info("stopping: no new work is accepted, what is under way may end", extra={"action": "stopping"})
    watching.cancel()
    door.close()
    await service.stop(PATIENCE)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*ticking)
    for server in servers:
        await server.shutdown()
    _log.info("stopped", extra={"action": "stopped"})
    return 0


def _server(app: Any, listen: str, http: Any) -> uvicorn.Server:
    """Make a server that leaves signals to us."""
    host, _, port = listen.rpartition(":")
    settings = uvicorn.Config(
        app,
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        loop="uvloop",
        http=http,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(settings)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(130)  # asked twice: whoever asked does not want to wait; what is acknowledged is durable anyway
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)


async def _watch(config: ServiceConfig, load: Callable[[], ServiceConfig], service: Service) -> None:
    """Reload when a file of the configuration changed; an invalid one is refused, reported, and the old one runs on."""
    await watch_config(config.files, load, service.reload, service.refused)
