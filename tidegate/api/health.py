"""Health, readiness and metrics: what machines ask. Health and readiness answer without a token, and then tell less."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import PlainTextResponse

from tidegate.api.asking import HouseDep
from tidegate.api.models_runs import Alive, Ready
from tidegate.api.openapi import problems
from tidegate.api.views_alerts import undelivered_row
from tidegate.api.views_runs import health_view

router = APIRouter(tags=["health"])
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz", summary="Is the process alive?", responses=problems())
async def healthz(house: HouseDep) -> Alive:
    """Answer whenever the process can answer at all; says nothing about the store."""
    return Alive(status="ok", version=house.version)


@router.get(
    "/readyz",
    responses={**problems(422), 503: {"model": Ready, "description": "Not ready; see `reason`."}},
    summary="Can this process durably accept?",
)
async def readyz(
    request: Request,
    response: Response,
    house: HouseDep,
    strict: Annotated[
        str | None, Query(description="Given (unless `false`): an unhealthy sensor fails it too.")
    ] = None,
) -> Ready:
    """Fail only when this process cannot durably accept: store, schema, draining. Sensors, and
    alerts that could not be delivered, are listed beside it."""
    ready, reason = house.ready()
    health = {name: health_view(found, enabled=True) for name, found in house.sensor_health().items()}
    if strict is not None and strict.lower() not in ("false", "0", "no"):
        ill = sorted(name for name, view in health.items() if view.state in ("unhealthy", "stopped"))
        if ready and ill:
            ready, reason = False, f"unhealthy sensors: {', '.join(ill)}"
    known = getattr(request.state, "principal", None) is not None
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return Ready(
        ready=ready,
        reason=reason if known or ready else "not ready",
        sensors=health if known else None,
        undelivered_alerts=[undelivered_row(one) for one in house.undelivered()] if known else None,
    )


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    summary="Metrics in the Prometheus text format",
)
async def metrics(house: HouseDep) -> Response:
    """Return all metrics."""
    return Response(house.metrics_text(), media_type=PROMETHEUS)
