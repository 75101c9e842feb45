"""Webhook sensors for tests: built from options, with expressions in Python instead of CEL."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sensors.clock import SystemClock
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds.webhook import Webhook, WebhookOptions
from sensors.sensor import Request

Scope = Mapping[str, Any]


def python_expressions(text: str, scope: tuple[str, ...]) -> Callable[[Scope], Any]:
    """Compile a Python expression: what the composition root does with CEL."""
    code = compile(text, "<expression>", "eval")
    return lambda values: eval(code, {}, {name: values[name] for name in scope})


def make_webhook(**options: Any) -> Webhook:
    """Build a webhook on /hooks/test that lets everybody in, unless options say otherwise."""
    read = WebhookOptions.model_validate({"path": "/hooks/test", "verify": "none", **options})
    context = SensorContext("hook", "svc", SystemClock(), Path(), {}, python_expressions)
    return Webhook(read, context)


async def one_event(webhook: Webhook, request: Request) -> Event:
    """Return the one event of a request."""
    batch = await webhook.receive(request)
    (event,) = batch.events
    assert not batch.dead_letters
    return event
