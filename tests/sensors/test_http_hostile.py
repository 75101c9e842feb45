"""APIs that misbehave: each cause has one sentence, costs no more than its bound, and skips nothing."""

import asyncio
import json
import re
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from sensors.errors import BackOff, NotConnected
from sensors.hosts import Hosts
from sensors.testing import VirtualClock
from tests.support.http_watch import Watch, make_context, told
from tests.support.misbehaving_api import MisbehavingApi, Reply, bomb, reply, running_api, zipped


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as server:
        yield server


async def fails(watch: Watch) -> str:
    """Return the sentence with which a poll fails."""
    with pytest.raises((NotConnected, BackOff)) as failed:
        await watch.poll()
    sentence = str(failed.value)
    assert "\n" not in sentence
    return sentence


DEEP = b"[" * 200 + b"]" * 200
DEEPER = b"[" * 100_000 + b"]" * 100_000

CASES = [
    pytest.param(reply({}, 400), "does not understand the request", id="400"),
    pytest.param(reply({}, 401), "refuses the credentials (401); correct `auth`", id="401"),
    pytest.param(reply({}, 403), "does not allow it (403)", id="403"),
    pytest.param(reply({}, 404), "is not there (404); correct `url`", id="404"),
    pytest.param(reply({}, 500), "an error of its own (500); nothing was skipped", id="500"),
    pytest.param(reply({}, 503), "an error of its own (503)", id="503"),
    pytest.param(reply({}, 418), "answers 418", id="418"),
    pytest.param(
        Reply(b"<html>", headers={"Content-Type": "text/html"}), "(it says text/html) cannot be used", id="html"
    ),
    pytest.param(Reply(b"", headers={"Content-Type": "application/json"}), "it is no JSON", id="empty"),
    pytest.param(Reply(b'[{"id": 1}, {"id"'), "it is no JSON", id="half-json"),
    pytest.param(reply([{"id": n} for n in range(99)], manner="half"), "was cut off", id="half-page"),
    pytest.param(reply({"error": "no"}), "`items` gives an object where a list is needed", id="no-list"),
    pytest.param(Reply(DEEP), "nested deeper than 128", id="deep"),
    pytest.param(Reply(DEEPER), "nested deeper than 128", id="deeper"),
    pytest.param(Reply(manner="hang-up"), "the connection to", id="hang-up"),
    pytest.param(Reply(b"SSH-2.0-x\r\n", manner="bare"), "is no sound HTTP", id="ssh"),
    pytest.param(
        Reply(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", manner="bare"), "no sound HTTP", id="head"
    ),
    pytest.param(reply([], headers={f"x-{n}": "y" * 8_000 for n in range(20)}), "larger than 64 KiB", id="heads"),
    pytest.param(Reply(manner="silent"), "fell silent for 200ms; raise `read_timeout`", id="silent"),
    pytest.param(Reply(b" " * 5_000, manner="drip"), "too slowly", id="drip"),
    pytest.param(Reply(b"x", headers={"Content-Encoding": "br"}), "which was not asked for", id="brotli"),
    pytest.param(Reply(b"xyz", headers={"Content-Encoding": "gzip"}), "is no gzip", id="no-gzip"),
    pytest.param(Reply(zipped([1] * 99).body[:-9], headers={"Content-Encoding": "gzip"}), "cut off", id="half-gzip"),
    pytest.param(
        Reply(zipped([1] * 99, "zstd").body[:-3], headers={"Content-Encoding": "zstd"}), "cut off", id="half-zstd"
    ),
    pytest.param(
        Reply(status=302, headers={"Location": "http://example.com/x"}),
        "another place (http://example.com/x)",
        id="redirect",
    ),
    pytest.param(Reply(status=302, headers={"Location": "https://127.0.0.1/"}), "is not followed", id="redirect-https"),
    pytest.param(Reply(status=302), "does not say where to", id="redirect-nowhere"),
]


@pytest.mark.parametrize(("answer", "words"), CASES)
async def test_what_is_wrong_is_one_sentence_and_nothing_moves(api: MisbehavingApi, answer: Reply, words: str) -> None:
    """The position stays where it was, no event is made of a page that is not whole, and the next poll has it all."""
    watch = Watch({"url": f"{api.url}/list?key=hidden", "read_timeout": "200ms", "timeout": "5s", "id": "item.id"})
    api.script += [reply([{"id": 0}]), answer]
    if answer.manner == "hang-up":  # a kept connection that ends is no news: the request is sent once more
        api.script.append(answer)
    await watch.poll()
    before = watch.cursor
    sentence = await fails(watch)
    after = watch.cursor
    api.otherwise = lambda _: reply([{"id": 0}, {"id": 1}])
    healed = await watch.poll()
    await watch.close()

    assert words in sentence
    assert "hidden" not in sentence
    assert (before, [event.id for event in healed]) == (after, ["1"])


async def test_a_long_answer_is_bounded_by_its_timeout(api: MisbehavingApi) -> None:
    """An answer that trickles just fast enough still ends with `timeout`."""
    watch = Watch({"url": api.url, "read_timeout": "10s", "timeout": "300ms"})
    api.otherwise = lambda _: Reply(b" " * 5_000, manner="drip")

    assert "did not answer whole within 300ms; raise `timeout`" in await fails(watch)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(b" " * (1 << 20), repeat=200), id="200-MiB"),
        pytest.param(Reply(b" " * (2 << 20)), id="announced"),
        pytest.param(bomb("gzip"), id="gzip-bomb"),
        pytest.param(bomb("zstd"), id="zstd-bomb"),
    ],
)
async def test_a_huge_answer_costs_no_more_than_its_bound(api: MisbehavingApi, answer: Reply) -> None:
    """What is larger than `max_body`, sent or unpacked, is given up at the bound; the sentence names the option."""
    watch = Watch({"url": api.url, "max_body": "1MiB"})
    api.otherwise = lambda _: answer
    await fails(watch)  # what is imported at first is not counted
    tracemalloc.start()
    try:
        sentence = await fails(watch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert "larger than 1MiB unpacked (`max_body`); raise it, or ask for smaller pages" in sentence
    assert peak < 12 << 20
    assert api.sent < 64 << 20


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_packed_answers_are_read(api: MisbehavingApi, coding: str) -> None:
    """What was offered is understood, and only that is offered."""
    watch = Watch({"url": api.url, "id": "item.id"})
    rows = [{"id": f"{n:06}", "text": "x" * 50} for n in range(3_000)]
    api.script.append(zipped(rows, coding))
    events = await watch.poll()
    await watch.close()

    assert len(events) == 3_000
    assert api.seen[0].headers["Accept-Encoding"] == "gzip, deflate, zstd"


async def test_redirects_stay_where_was_asked(api: MisbehavingApi) -> None:
    """One on the same origin is followed, a circle of them ends, and cookies are never sent back."""
    watch = Watch({"url": f"{api.url}/a", "headers": {"X-Key": "k"}})
    api.script += [
        Reply(status=307, headers={"Location": "/b?c=1", "Set-Cookie": "s=1"}),
        reply([{"id": 1}], headers={"Set-Cookie": "s=2"}),
        reply([]),
    ]
    events = await watch.poll()
    await watch.poll()
    api.otherwise = lambda _: Reply(status=302, headers={"Location": "/a"})
    circle = await fails(watch)

    assert (len(events), api.seen[1].path, api.seen[1].query, api.seen[1].headers["X-Key"]) == (
        1,
        "/b",
        {"c": "1"},
        "k",
    )
    assert not any("Cookie" in seen.headers for seen in api.seen)
    assert "more than 5 times" in circle


async def test_places_that_cannot_be_reached_have_their_sentence(tmp_path: Path) -> None:
    """A name that does not resolve, a closed port, another protocol and a certificate nobody trusts are told apart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with running_api() as plain, running_api(context) as secure:
        secure.otherwise = lambda _: reply([{"id": 1}])
        assert "cannot be resolved" in await fails(Watch({"url": "http://no-such-host.invalid/x"}))
        assert "no connection to" in await fails(Watch({"url": f"http://127.0.0.1:{closed}/"}))
        assert "TLS with" in await fails(Watch({"url": plain.url.replace("http:", "https:")}))
        assert "is not trusted" in await fails(Watch({"url": secure.url}))
        trusting = Watch({"url": secure.url, "ca_bundle": "ca.pem"}, make_context(base=tmp_path))
        assert len(await trusting.poll()) == 1
        await trusting.close()
        missing = Watch({"url": secure.url, "ca_bundle": "none.pem"}, make_context(base=tmp_path))
        assert "`ca_bundle`" in await fails(missing)


async def test_addresses_are_checked_when_connecting(api: MisbehavingApi) -> None:
    """A private address is refused unless `network.allow` names it, whatever name led there."""
    by_number = await fails(Watch({"url": api.url}, make_context(allow=())))
    by_name = await fails(Watch({"url": api.url.replace("127.0.0.1", "localhost")}, make_context(allow=())))

    assert "network.allow" in by_number
    assert "network.allow" in by_name
    assert api.seen == []


async def test_retry_after_is_obeyed_in_both_forms(api: MisbehavingApi) -> None:
    """Seconds, and a date by the server's own clock; afterwards the same page is asked for again."""
    for asked, headers in (
        (7.0, {"Retry-After": "7"}),
        (30.0, {"Retry-After": "Sat, 31 Jan 2026 06:00:30 GMT", "Date": "Sat, 31 Jan 2026 06:00:00 GMT"}),
        (60.0, {}),
    ):
        clock = VirtualClock()
        watch = Watch({"url": api.url}, make_context(clock))
        api.script += [reply([{"id": 1}]), reply({}, 429, headers)]
        await watch.poll()
        with pytest.raises(BackOff) as wait:
            await watch.poll()
        assert wait.value.wait == pytest.approx(asked, abs=0.01)
        assert "asks for patience (429)" in str(wait.value)


async def test_a_page_that_must_wait_is_asked_for_again(api: MisbehavingApi) -> None:
    """In the middle of a poll a 429 keeps what was read; the poll goes on with the same page, and then moves."""
    clock = VirtualClock()
    watch = Watch({"url": api.url, "id": "item.id", "paging": {"by": "link"}}, make_context(clock))
    api.script += [
        reply([{"id": 1}], headers={"Link": '</2>; rel="next"'}),
        reply({}, 429, {"Retry-After": "5"}),
        reply([{"id": 2}]),
    ]
    await watch.connect()
    await watch.step()
    await watch.step()
    with pytest.raises(BackOff):
        await watch.step()
    early = watch.cursor
    await clock.advance(5)
    while watch.sensor.lag() is None:
        await watch.step()
    await watch.close()

    assert [seen.path for seen in api.seen] == ["/", "/2", "/2"]
    assert told(watch.inbox.events) == [("item.created", "1"), ("item.created", "2")]
    assert json.loads(early)["baseline"] is False
    assert json.loads(watch.cursor)["baseline"] is True


async def test_an_empty_quota_is_waited_for_by_all_sensors_of_the_host(api: MisbehavingApi) -> None:
    """After an answer that leaves nothing, no sensor asks this host until the reset; that is no failure."""
    clock = VirtualClock()
    context = make_context(clock, hosts=Hosts(clock))
    one, other = Watch({"url": f"{api.url}/1"}, context), Watch({"url": f"{api.url}/2"}, context)
    api.script.append(reply([], headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "40"}))
    await one.poll()
    one.sensor.poll()
    with pytest.raises(BackOff, match="allows no more requests") as wait:
        await other.poll()
    reading = asyncio.create_task(one.step())
    await clock.advance(39)
    quiet = (reading.done(), len(api.seen))
    await clock.advance(2)
    batch = await reading
    await one.poll()
    await one.close()

    assert wait.value.wait == pytest.approx(40, abs=0.01)
    assert (quiet, batch.empty, len(api.seen)) == ((False, 1), True, 2)


async def test_one_request_at_a_time_goes_to_a_host(api: MisbehavingApi) -> None:
    """Sensors of one host take turns, unless `per_host` says otherwise."""
    context = make_context()
    for limit, most in ((1, 1), (3, 3)):
        api.concurrent, api.gate = 0, asyncio.Event()
        watches = [Watch({"url": f"{api.url}/{n}", "per_host": limit}, context) for n in range(4)]
        polls = [asyncio.create_task(watch.poll()) for watch in watches]
        while len(api.seen) % 4 < limit:
            await asyncio.sleep(0.005)
        api.gate.set()
        await asyncio.gather(*polls)
        for watch in watches:
            await watch.close()
        assert api.concurrent <= most


async def test_more_pages_than_are_read_are_told(api: MisbehavingApi) -> None:
    """A list that says it has more pages while `paging` is not set makes the sensor unhealthy, with the remedy."""
    watch = Watch({"url": api.url})
    api.otherwise = lambda _: reply([1], headers={"Link": '<?page=2>; rel="next"'})
    await watch.poll()
    trouble = watch.sensor.trouble()
    await watch.close()

    assert trouble is not None
    assert "paging: {by: link}" in trouble


async def test_ids_that_are_nowhere_are_told(api: MisbehavingApi) -> None:
    """A misspelt `id` that gives nothing for any item makes the sensor unhealthy."""
    watch = Watch({"url": api.url, "id": "item.uid"})
    api.otherwise = lambda _: reply([{"id": 1}])
    events = await watch.poll()
    trouble = watch.sensor.trouble()
    await watch.close()

    assert len(events) == 1
    assert trouble == "`id` gives nothing for any item, so each is known by its content; correct `id`"


SECRETS = ("tok-SECRET-1", "hdr-SECRET-2", "qry-SECRET-3", "bdy-SECRET-4", "key-SECRET-5", "url-SECRET-6")


@pytest.mark.parametrize(
    "auth",
    [
        {"scheme": "bearer", "token": SECRETS[0]},
        {"scheme": "basic", "username": "u", "password": SECRETS[0]},
        {"scheme": "api_key", "key": SECRETS[4], "query": "k"},
        {"scheme": "api_key", "key": SECRETS[4], "header": "X-Key"},
    ],
    ids=lambda auth: auth["scheme"] + str(auth.get("query", "")),
)
async def test_secrets_are_shown_nowhere(
    api: MisbehavingApi, auth: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """No repr, dump, sentence, log line, event or stored row holds what was sent as a secret."""
    options: dict[str, Any] = {
        "url": f"{api.url}/x?u={SECRETS[5]}",
        "method": "POST",
        "headers": {"X-Token": SECRETS[1]},
        "query": {"q": SECRETS[2]},
        "json": {"b": SECRETS[3]},
        "auth": auth,
    }
    watch = Watch(options)
    api.script += [
        reply([{"id": 1}]),
        Reply(b"no", status=500),
        reply({}, 401),
        reply({"x": 1}),
        Reply(manner="hang-up"),
    ]
    await watch.poll()
    told_ = [await fails(watch) for _ in range(4)]
    sent = " ".join(f"{seen.query} {seen.headers} {seen.body!r}" for seen in api.seen)
    poll = watch.sensor._poll
    options_of = watch.sensor._options
    shown = " ".join(
        [
            *told_,
            caplog.text,
            repr(watch.sensor),
            repr(options_of),
            options_of.model_dump_json(by_alias=True),
            repr(poll),
            repr(watch.inbox.events),
            repr(watch.inbox.batches),
            repr(watch.inbox._cursors),
            repr(watch.sensor._plan),
        ]
    )

    assert len(api.seen) == 5
    assert sum(secret in sent for secret in SECRETS) >= 4
    assert re.findall(r"\w+-SECRET-\d", shown) == []
