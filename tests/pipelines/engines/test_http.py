import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipelines.engines.http import KIND, HttpEngine
from pipelines.errors import Ambiguous, TaskFailed, TaskTimedOut
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import TRACEPARENT, make_context, make_settings
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


async def test_request_carries_key_context_and_body(tmp_path: Path) -> None:
    """A request carries method, headers and body as configured, the idempotency key and the trace context."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"ok": [1, 2]})

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        context = ask(f"{sink.url}/a?b=1", json={"day": 1}, headers={"X-Team": "sales", "X-Number": 7})
        result = await run(engine, context)

        request = sink.requests[0]
        assert result.output == {"ok": [1, 2]}
        assert (request.method, request.path_qs, sink.bodies[0]) == ("POST", "/a?b=1", b'{"day":1}')
        assert request.headers["Idempotency-Key"] == context.task_run.engine_key
        assert request.headers["traceparent"] == TRACEPARENT
        assert request.headers["Content-Type"] == "application/json"
        assert (request.headers["X-Team"], request.headers["X-Number"]) == ("sales", "7")


async def test_two_starts_under_one_key_send_the_same_key(tmp_path: Path) -> None:
    """Starting again under the same engine key repeats the request with the same Idempotency-Key."""
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        context = ask(sink.url)
        await run(engine, context)
        await run(engine, context)

        assert len({request.headers["Idempotency-Key"] for request in sink.requests}) == 1
        assert await engine.find(context) is None


@pytest.mark.parametrize(
    ("kind", "text", "output", "expected"),
    [
        pytest.param("application/json", '{"a":1}', "auto", {"a": 1}, id="auto-json"),
        pytest.param("application/ld+json", "[1]", "auto", [1], id="auto-ld-json"),
        pytest.param("text/plain", "hé", "auto", "hé", id="auto-text"),
        pytest.param("application/octet-stream", "x", "auto", None, id="auto-bytes"),
        pytest.param("application/json", "no json", "auto", None, id="auto-not-json"),
        pytest.param("application/json", "", "auto", None, id="auto-empty"),
        pytest.param("text/plain", "[1]", "json", [1], id="json-whatever-it-is-called"),
        pytest.param("application/json", "[1]", "text", "[1]", id="text"),
        pytest.param("application/json", "[1]", "none", None, id="none"),
        pytest.param("text/plain", "x" * 300_000, "auto", None, id="auto-too-large"),
    ],
)
async def test_output_modes(tmp_path: Path, kind: str, text: str, output: str, expected: Any) -> None:
    """The answer becomes the output as `output` says."""
    async with http_sink(reply(text=text, content_type=kind)) as sink, opened(tmp_path) as engine:
        assert (await run(engine, ask(sink.url, output=output))).output == expected


@pytest.mark.parametrize(
    ("body", "output", "word"),
    [
        pytest.param(b"nope", "json", "did not answer JSON", id="not-json"),
        pytest.param(b"x" * 1_100_000, "text", "more than 1024 KiB", id="over-the-cap"),
        pytest.param(b"x" * 300_000, "text", "an output holds 256 KiB", id="over-the-ledger"),
    ],
)
async def test_unusable_answers_fail_for_good(tmp_path: Path, body: bytes, output: str, word: str) -> None:
    """An answer that cannot be kept as asked fails with a remedy and is not repeated: the request had its effect."""
    async with http_sink(reply(body=body)) as sink, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=word) as caught:
            await run(engine, ask(sink.url, output=output))

        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (404, False), (409, False), (408, True), (425, True), (429, True), (500, True)],
)
async def test_definitive_statuses(tmp_path: Path, status: int, retryable: bool) -> None:
    """A refusal is a failure that names status and answer; it is repeated only where that may help."""
    async with http_sink(reply(status, text="because")) as sink, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=f"answered {status}: because") as caught:
            await run(engine, ask(f"{sink.url}/x?token=secret"))

        assert (caught.value.retryable, caught.value.kind) == (retryable, f"http_{status}")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_gateway_statuses_are_ambiguous(tmp_path: Path, status: int) -> None:
    """A gateway's answer says nothing about the effect."""
    async with http_sink(reply(status)) as sink, opened(tmp_path) as engine:
        with pytest.raises(Ambiguous):
            await run(engine, ask(sink.url))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(tmp_path: Path, status: int) -> None:
    """A Retry-After travels with the failure, and makes a 503 a definitive refusal."""
    async with http_sink(reply(status, headers={"Retry-After": "17"})) as sink, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as caught:
            await run(engine, ask(sink.url))

        assert (caught.value.retry_after, caught.value.retryable) == (17.0, True)


async def test_expect_decides_what_success_is(tmp_path: Path) -> None:
    """With `expect`, exactly those statuses succeed."""
    async with http_sink(reply(409, text="there")) as sink, opened(tmp_path) as engine:
        assert (await run(engine, ask(sink.url, expect=[200, 409]))).output == "there"
        with pytest.raises(TaskFailed):
            await run(engine, ask(sink.url, expect=[200]))


async def test_connection_refused_is_definitive(tmp_path: Path) -> None:
    """Nothing listens: nothing was sent, so the attempt failed for sure and may be repeated."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with opened(tmp_path) as engine:
            with pytest.raises(TaskFailed, match="nothing was sent") as caught:
                await run(engine, ask(f"http://127.0.0.1:{taken.getsockname()[1]}/"))

    assert (caught.value.kind, caught.value.retryable) == ("connect", True)


async def test_reset_after_sending_is_ambiguous(tmp_path: Path) -> None:
    """The connection breaks after the request was sent: nobody knows."""

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        with pytest.raises(Ambiguous, match="connection broke"):
            await run(engine, ask(sink.url))
        assert len(sink.requests) == 1


async def test_silence_after_sending_is_ambiguous(tmp_path: Path) -> None:
    """No answer in time: nobody knows."""
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        with pytest.raises(Ambiguous, match=r"not answered within 0\.05 s"):
            await run(engine, ask(sink.url, request_timeout="50ms"))
        release.set()


async def test_cancel_closes_the_connection(tmp_path: Path) -> None:
    """A cancelled request is dropped, and its poll ends as cancelled."""
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        context = ask(sink.url)
        handle = await engine.start(context)
        poll = asyncio.create_task(engine.poll(context, handle))
        await sink.arrived.wait()
        await engine.cancel(context, handle)
        with pytest.raises(TaskFailed) as caught:
            await poll
        assert caught.value.kind == "cancelled"
        await engine.cancel(context, handle)
        release.set()


async def test_requests_over_the_limit_wait_and_time_out_unsent(tmp_path: Path) -> None:
    """At most `per_host` requests are under way; one that never got its turn was not sent."""
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        first = ask(sink.url, per_host=1)
        going = asyncio.create_task(run(engine, first))
        await sink.arrived.wait()
        late = make_context("http", {"url": sink.url, "per_host": 1}, seconds=0.05)
        with pytest.raises(TaskTimedOut, match="nothing was sent"):
            await run(engine, late)
        release.set()
        await going

        assert len(sink.requests) == 1


async def test_redirects_stay_on_the_host(tmp_path: Path) -> None:
    """Redirects are failures by default; `same_host` follows them on the same host and nowhere else."""

    async def handler(request: web.Request) -> web.Response:
        match request.path:
            case "/old":
                return web.Response(status=307, headers={"Location": "/new"})
            case "/see":
                return web.Response(status=303, headers={"Location": "/new"})
            case "/away":
                return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})
            case "/loop":
                return web.Response(status=302, headers={"Location": "/loop"})
            case _:
                return web.Response(text=request.method)

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match="a redirect") as caught:
            await run(engine, ask(f"{sink.url}/old"))
        assert not caught.value.retryable
        assert (await run(engine, ask(f"{sink.url}/old", redirects="same_host"))).output == "POST"
        assert (await run(engine, ask(f"{sink.url}/see", redirects="same_host"))).output == "GET"
        with pytest.raises(TaskFailed, match="another host"):
            await run(engine, ask(f"{sink.url}/away", redirects="same_host"))
        with pytest.raises(TaskFailed, match="more than 5 times"):
            await run(engine, ask(f"{sink.url}/loop", redirects="same_host"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "http://[::1]:9/",
        "http://[::ffff:127.0.0.1]:9/",
        "http://[::ffff:169.254.169.254]/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:9/",
        "http://0.0.0.0:9/",
    ],
)
async def test_private_addresses_are_refused_at_connect(tmp_path: Path, url: str) -> None:
    """Addresses that are not public are refused, as literals and when a name resolves to them, and not retried."""
    async with opened(tmp_path, allow=()) as engine:
        with pytest.raises(TaskFailed, match="may not be called") as caught:
            await run(engine, ask(url))

    assert (caught.value.kind, caught.value.retryable) == ("forbidden_address", False)


@pytest.mark.parametrize("url", ["http://2130706433:9/", "http://127.1:9/", "http://0x7f000001:9/"])
async def test_odd_spellings_do_not_pass(tmp_path: Path, url: str) -> None:
    """Numeric spellings that some resolvers take for an address reach nothing."""
    async with opened(tmp_path, allow=()) as engine:
        with pytest.raises(TaskFailed):
            await run(engine, ask(url))


async def test_metadata_is_refused_although_all_is_allowed(tmp_path: Path) -> None:
    """No configuration opens the metadata address."""
    async with opened(tmp_path, allow=("0.0.0.0/0", "::/0")) as engine:
        with pytest.raises(TaskFailed, match="metadata"):
            await run(engine, ask("http://[::ffff:169.254.169.254]/"))


async def test_environment_proxies_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not carry requests around the guard."""
    async with http_sink(reply(text="direct")) as sink, opened(tmp_path) as engine:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

        assert (await run(engine, ask(sink.url))).output == "direct"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"url": "file:///etc/passwd"}, id="scheme"),
        pytest.param({"url": "http://"}, id="no-host"),
        pytest.param({"url": "http://x/", "json": 1, "body": "a"}, id="two-bodies"),
        pytest.param({"url": "http://x/", "headers": {"X": "a\r\nY: b"}}, id="header-value"),
        pytest.param({"url": "http://x/", "headers": {"X: a\r\nY": "b"}}, id="header-name"),
        pytest.param({"url": "http://x/", "headers": {"Content-Length": "5"}}, id="framing"),
        pytest.param({"url": "http://x/", "colour": "red"}, id="unknown"),
    ],
)
async def test_bad_options_fail_before_anything_is_sent(tmp_path: Path, options: dict[str, Any]) -> None:
    """Evaluated options that cannot be a request are a failure that is not repeated."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed) as caught:
            await engine.start(make_context("http", options))

    assert (caught.value.kind, caught.value.retryable) == ("bad_options", False)


async def test_unknown_handle_is_ambiguous(tmp_path: Path) -> None:
    """A request of a former process may have been sent."""
    async with opened(tmp_path) as engine:
        with pytest.raises(Ambiguous):
            await engine.poll(ask("http://x/"), "17")


async def test_a_hanging_request_does_not_stop_close(tmp_path: Path) -> None:
    """Closing ends requests under way."""
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with http_sink(handler) as sink, opened(tmp_path) as engine:
        poll = asyncio.create_task(run(engine, ask(sink.url)))
        await sink.arrived.wait()
        await engine.close()
        with pytest.raises(TaskFailed):
            await poll
        release.set()


async def test_overhead_is_small(tmp_path: Path) -> None:
    """A call costs well under two milliseconds of CPU together with the server that answers it in the same process."""
    async with http_sink(reply()) as sink, opened(tmp_path) as engine:
        await run(engine, ask(sink.url))
        begun = time.process_time()
        for _ in range(100):
            await run(engine, ask(sink.url, json={"a": 1}))

        assert (time.process_time() - begun) / 100 < 0.004
