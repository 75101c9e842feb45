"""The application behind the listen address: API, health, metrics and console, behind one gate.

Webhooks do not come this way: `tidegate.api.webhooks` answers them before this application is asked.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from tidegate.api import (
    alerts_api,
    checks_api,
    dead_letters,
    docs,
    events,
    health,
    lineage,
    openapi,
    problems,
    runs,
    sensors_api,
    stream,
    tokens_api,
    triggers_api,
)
from tidegate.api.auth import Auth, Gate
from tidegate.api.house import House
from tidegate.api.stream import RunWatcher
from tidegate.web import console

_ROUTES = (
    health,
    events,
    sensors_api,
    triggers_api,
    runs,
    lineage,
    dead_letters,
    alerts_api,
    checks_api,
    stream,
    tokens_api,
    docs,
)
_DESCRIPTION = (
    "Everything has a `uid`. Lists page with an opaque `cursor`, newest first. Times are RFC 3339 in UTC. "
    "Errors are RFC 9457 problem details."
)


def create_app(house: House, *, auth: Auth, watcher: RunWatcher | None = None) -> FastAPI:
    """Build the application that serves `house` to whom `auth` lets in. Starts nothing.

    `watcher` feeds `/api/v1/stream`; the one made here looks once a second while somebody listens. Its streams end with
    the application's lifespan, or when the caller closes it.
    """
    watching = watcher or RunWatcher(house)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        watching.close()

    app = FastAPI(
        title="Tidegate",
        version=house.version,
        summary="The event-driven front door of a data platform",
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.house = house
    app.state.watcher = watching
    app.state.auth = auth
    problems.install(app)
    openapi.install(app)
    for module in _ROUTES:
        app.include_router(module.router)
    app.include_router(console.router)
    app.add_middleware(Gate, auth=auth)
    return app


def _operation_id(route: APIRoute) -> str:
    """Name operations by their function: `list_runs`."""
    return route.name
