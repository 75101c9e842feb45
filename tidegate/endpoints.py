"""From a push sensor's options to its endpoint at the public door. Pure: nothing is opened.

Options that a push kind lacks mean their defaults: kinds of plug-ins need declare no more than a path.
"""

from typing import Any

from config.model import Limits
from sensors.adapters.webhook_options import per_second
from sensors.clock import Clock
from sensors.headers import HeaderPolicy
from sensors.push import PushGate
from sensors.sensor import PushSensor
from sensors.verify import verifier_of
from tidegate.api.cors import Cors
from tidegate.api.endpoints import Endpoint
from tidegate.api.throttle import Allowance, Throttle

_WAIT = 60.0  # seconds that a verified sender may wait for its runs, unless the options say otherwise


def make_endpoint(
    name: str, options: Any, gate: PushGate, receiver: PushSensor, throttle: Throttle | None, limits: Limits
) -> Endpoint:
    """Return the endpoint of a push sensor."""
    verify = getattr(options, "verify", None)
    verified = verify is not None and verify.scheme != "none"
    secret = verifier_of(verify).secret_headers(verify) if verify is not None else ()
    methods = tuple(getattr(options, "methods", ("POST",)))
    cors = getattr(options, "cors", None)
    wait = getattr(options, "wait", None)
    asks = bool(getattr(options, "asks_by_options", False))
    return Endpoint(
        sensor=name,
        path=options.path,
        methods=(*methods, "OPTIONS") if asks else methods,
        gate=gate,
        receiver=receiver,
        verified=verified,
        max_body=getattr(options, "max_body", None) or limits.body,
        wait=wait if wait is not None else _WAIT if verified else 0.0,
        throttle=throttle,
        cors=None if cors is None else Cors(cors.origins, methods, cors.headers, int(cors.max_age)),
        keep_refused=getattr(options, "keep_refused", 0),
        shown=HeaderPolicy(None, secret),
    )


def make_throttle(options: Any, clock: Clock) -> Throttle | None:
    """Return what limits an endpoint, None when nothing does."""
    limit = getattr(options, "limit", None)
    if limit is None:
        return None
    rate = per_second(limit.rate) if limit.rate is not None else None
    burst = limit.burst if limit.burst is not None else max(1, round(rate or 1))
    return Throttle(Allowance(rate, burst, limit.requests, limit.bytes, limit.per), clock)
