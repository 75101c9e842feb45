"""The last look at the lease before a request leaves, and what else keeps the loop free to renew it."""

import importlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipelines.engines.http import KIND, HttpEngine
from pipelines.errors import LeaseLost
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import make_context, make_settings
from tests.support.http_sink import http_sink


@asynccontextmanager
async def opened(folder: Path, allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")) -> AsyncIterator[HttpEngine]:
    engine = KIND.build(make_settings(folder, allow=allow))
    assert isinstance(engine, HttpEngine)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: HttpEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


def ask(url: str, **options: Any) -> TaskContext:
    return make_context("http", {"url": url, **options})


def reply(status: int = 200, **kwargs: Any) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, **kwargs)

    return handler


@pytest.mark.parametrize("answers", [0, 1], ids=["before-the-head", "between-connection-and-body"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_nothing_is_sent_once_the_lease_is_gone(tmp_path: Path, method: str, answers: int) -> None:
    """The lease is asked for after the connection was made, and again when the body is written: no byte leaves."""
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        left = iter([True] * answers)
        options = {"url": sink.url, "method": method, **({"json": {"a": 1}} if method == "POST" else {})}
        context = make_context("http", options, held=lambda: next(left, False))
        if method == "GET" and answers:
            await run(engine, context)  # without a body the first answer is the last question
            assert len(sink.requests) == 1
            return

        with pytest.raises(LeaseLost, match="nothing was sent"):
            await run(engine, context)
        assert sink.requests == []

        await run(engine, ask(sink.url))  # and the session goes on
        assert len(sink.requests) == 1


async def test_the_first_request_does_not_stall_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP library is imported in a thread: whoever renews leases meanwhile is not kept waiting."""
    threads: list[int] = []
    real = importlib.import_module

    def noted(name: str, package: str | None = None) -> object:
        threads.append(threading.get_ident())
        return real(name, package)

    monkeypatch.setattr("pipelines.engines.http.importlib.import_module", noted)
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        await run(engine, ask(sink.url))
        await run(engine, ask(sink.url))

    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
