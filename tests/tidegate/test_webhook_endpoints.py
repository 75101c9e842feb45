"""Endpoints at the door: paths that capture, rates and quotas, browsers, waiting for runs, chosen answers, refusals."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from config.problems import ConfigProblems
from sensors.errors import Refused
from sensors.testing import VirtualClock
from tests.support.running import HANG_UP, Running, load, running, until
from tidegate.api.throttle import Allowance, Throttle
from tidegate.api.waiting import RunWaiter

TEXT = """
service:
  name: svc
  store: sqlite:///store.db
  limits: {body: 4KiB, read_timeout: 200ms}
sensors:
  tenants: {kind: webhook, path: "/hooks/{tenant}/orders", verify: none}
  special: {kind: webhook, path: /hooks/acme/orders, verify: none}
  hidden: {kind: webhook, path: "/in/{secret}", path_secret: "${env:S:-s3cret}", verify: none}
  slow: {kind: webhook, path: /hooks/slow, verify: {scheme: bearer, secret: "${env:S:-s3cret}"}, limit: {rate: 2/h}}
  quota: {kind: webhook, path: /hooks/quota, verify: none, limit: {requests: 3, bytes: 100, per: 1h}}
  site: {kind: webhook, path: /hooks/site, verify: none, cors: {origins: ["https://app.example.com"]}}
  open: {kind: webhook, path: /hooks/in, verify: none}
  waited: {kind: webhook, path: /hooks/wait, verify: none, id: body.id, wait: 20s}
  answered: {kind: webhook, path: /hooks/answer, verify: none, answer: {body: "<ok/>", content_type: text/xml}}
  batches: {kind: webhook, path: /hooks/batch, verify: none, cloudevents: {batch: true, origins: ["e.example.com"]}}
  kept:
    {kind: webhook, path: /hooks/kept, keep_refused: 16, verify: {scheme: hmac, header: X-Sig, secret: "${env:S:-s}"}}
triggers:
  runs: {on: {sensor: waited}, run: {pipeline: p, params: {code: "${{ event.data.code }}"}, key: event.id}}
  tenant:
    {on: {sensor: tenants}, when: event.match.tenant == "globex", run: {pipeline: q, key: event.id}}
pipelines:
  p: {params: {code: {type: int, required: true}}, engine: command, argv: [sh, -c, "exit ${{ params.code }}"]}
  q: {engine: command, argv: ["true"]}
"""
Open = Callable[..., Any]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        config = await load(tmp_path, TEXT, store="memory:")
        yield await stack.enter_async_context(running(config))


# -- paths -------------------------------------------------------------------------------------------------------------
async def test_a_path_with_a_name_captures_and_a_plain_one_goes_first(gate: Running) -> None:
    """Tenants share an endpoint; what is written out in full is an endpoint of its own; triggers see the capture."""
    assert (await gate.post("/hooks/globex/orders")).status == 202
    assert (await gate.post("/hooks/acme/orders")).status == 202
    assert [row["sensor"] for row in await gate.events()] == ["tenants", "special"]
    assert [row["source"] for row in await gate.events()] == ["/hooks/globex/orders", "/hooks/acme/orders"]
    await gate.finished(1)
    for path in ("/hooks//orders", "/hooks/a/b/orders", "/hooks/a/orders/", "/hooks/" + "x" * 1025 + "/orders"):
        assert (await gate.post(path)).status == 404


async def test_a_path_with_a_secret_is_no_path_without_it(gate: Running) -> None:
    """A wrong secret is answered like a path that does not exist, and the right one is nowhere to be seen."""
    good, bad, none = [await gate.post(path) for path in ("/in/s3cret", "/in/guess", "/nowhere")]
    assert (good.status, bad.status) == (202, 404)
    assert bad.body == none.body
    (row,) = await gate.events()
    assert row["source"] == "/in/{secret}"
    assert gate.service.refusals.last("hidden")[0].code == "path_secret"
    assert "guess" not in repr(gate.service.refusals.last("hidden"))
    assert "s3cret" not in gate.service.metrics_text()


# -- rates and quotas --------------------------------------------------------------------------------------------------
_TOKEN = {"authorization": "Bearer s3cret"}


async def test_a_rate_is_kept_and_forged_requests_use_none_of_it(gate: Running) -> None:
    """Beyond the rate there is 429 with Retry-After; who proves nothing takes nothing away from who does."""
    for _ in range(5):
        assert (await gate.post("/hooks/slow", headers={"authorization": "Bearer guess"})).status == 401
    (answer,) = [await gate.post("/hooks/slow", headers=_TOKEN)]
    refused = await gate.post("/hooks/slow", headers=_TOKEN)
    assert (answer.status, refused.status) == (202, 429)
    assert 1700 <= int(refused.headers["retry-after"]) <= 1800


async def test_a_quota_counts_what_is_accepted(gate: Running) -> None:
    """Requests and bytes of a window; one that is too large for what is left is refused, a smaller one is not."""
    assert (await gate.post("/hooks/quota", b"{" + b" " * 60 + b"}")).status == 202
    refused = await gate.post("/hooks/quota", b"{" + b" " * 60 + b"}")
    assert (refused.status, refused.headers["retry-after"].isdecimal()) == (429, True)
    assert (await gate.post("/hooks/quota", b"{")).status == 400
    assert (await gate.post("/hooks/quota", [b"{", HANG_UP])).status == 0
    assert [(await gate.post("/hooks/quota", b"{}")).status for _ in range(3)] == [202, 202, 429]
    assert len(await gate.events()) == 3


async def test_tokens_come_back_with_time() -> None:
    """A burst is allowed at once, then the rate; a window that is over begins anew; Retry-After says when."""
    clock = VirtualClock()
    throttle = Throttle(Allowance(rate=2.0, burst=3), clock)
    for _ in range(3):
        throttle.enter()
    with pytest.raises(Refused) as refused:
        throttle.enter()
    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "1"})
    await clock.advance(0.5)
    throttle.enter()
    with pytest.raises(Refused):
        throttle.enter()
    await clock.advance(60)
    for _ in range(3):
        throttle.enter()
    with pytest.raises(Refused):
        throttle.enter()

    daily = Throttle(Allowance(requests=1, per=86_400.0), clock)
    daily.enter()
    await clock.advance(86_000)
    with pytest.raises(Refused) as refused:
        daily.enter()
    assert refused.value.headers == {"retry-after": "400"}
    await clock.advance(401)
    daily.enter()


# -- browsers ----------------------------------------------------------------------------------------------------------
_ASKS = {"origin": "https://app.example.com", "access-control-request-method": "POST"}


async def test_browsers_of_listed_sites_may_post(gate: Running) -> None:
    """A listed site is told that it may, before and after; another one, and another endpoint, is not."""
    asked = await gate.post("/hooks/site", b"", _ASKS, method="OPTIONS")
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == "https://app.example.com"
    assert (asked.headers["access-control-allow-methods"], asked.headers["access-control-max-age"]) == ("POST", "600")
    posted = await gate.post("/hooks/site", headers={"origin": "https://app.example.com"})
    assert (posted.status, posted.headers["access-control-allow-origin"]) == (202, "https://app.example.com")
    refused = await gate.post("/hooks/site", b"{", headers={"origin": "https://app.example.com"})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, "https://app.example.com")

    for path, origin in (("/hooks/site", "https://evil.example.com"), ("/hooks/in", "https://app.example.com")):
        for method in ("OPTIONS", "POST"):
            answer = await gate.post(path, headers={**_ASKS, "origin": origin}, method=method)
            assert not any(name.startswith("access-control") for name in answer.headers)
    assert (await gate.post("/hooks/in", b"", _ASKS, method="OPTIONS")).status == 405


async def test_options_that_is_no_browsers_goes_to_the_protocol(gate: Running) -> None:
    """A sender that asks for permission is answered by CloudEvents' handshake, and nothing is stored."""
    answer = await gate.post("/hooks/batch", b"", {"webhook-request-origin": "e.example.com"}, method="OPTIONS")
    assert (answer.status, answer.headers["webhook-allowed-origin"]) == (200, "e.example.com")
    assert (await gate.post("/hooks/batch", b"", {"webhook-request-origin": "x"}, method="OPTIONS")).status == 403
    assert await gate.events() == []


# -- batches -----------------------------------------------------------------------------------------------------------
_BATCH = {"content-type": "application/cloudevents-batch+json"}


def _events(*ids: str) -> bytes:
    return ("[" + ",".join(f'{{"specversion":"1.0","id":"{i}","source":"/s","type":"t"}}' for i in ids) + "]").encode()


async def test_a_batch_is_stored_whole_or_not_at_all(gate: Running) -> None:
    """One answer tells of each event, repeats within and across batches included; one broken event refuses all."""
    first = await gate.post("/hooks/batch", _events("1", "2", "1"), _BATCH)
    again = await gate.post("/hooks/batch", _events("2", "3"), _BATCH)
    broken = await gate.post("/hooks/batch", _events("4")[:-1] + b',{"id":"5"}]', _BATCH)
    empty = await gate.post("/hooks/batch", b"[]", _BATCH)

    assert (first.status, again.status, broken.status) == (202, 202, 400)
    assert [one["duplicate"] for one in first.json["events"]] == [False, False, True]
    assert [one["duplicate"] for one in again.json["events"]] == [True, False]
    assert again.json["events"][0]["event"] == first.json["events"][1]["event"]
    assert (empty.status, empty.json) == (202, {"events": []})
    assert sorted(row["id"] for row in await gate.events()) == ["/s 1", "/s 2", "/s 3"]


# -- waiting for runs --------------------------------------------------------------------------------------------------
async def test_who_waits_is_told_how_the_run_ended(gate: Running) -> None:
    """200 with the state of every run once all have ended, also for a repeat; a failed run is no failed delivery."""
    good, bad = await asyncio.gather(
        gate.post("/hooks/wait", b'{"id": "a", "code": 0}', query="wait=20s"),
        gate.post("/hooks/wait", b'{"id": "b", "code": 3}', query="x=1&wait=20s"),
    )
    again = await gate.post("/hooks/wait", b'{"id": "a", "code": 0}', query="wait=20s")
    for answer, state in ((good, "succeeded"), (bad, "failed"), (again, "succeeded")):
        (event,) = answer.json["events"]
        assert answer.status == 200
        assert [(run["pipeline"], run["state"]) for run in event["runs"]] == [("p", state)]
    assert again.json["events"][0]["duplicate"] is True


async def test_who_does_not_want_to_wait_does_not(gate: Running) -> None:
    """Without `wait` nothing changes; a time that is over is 202 with the run as it stands; no time is refused."""
    assert "runs" not in (await gate.post("/hooks/wait", b'{"id": "a", "code": 0}')).json["events"][0]
    soon = await gate.post("/hooks/wait", b'{"id": "c", "code": 0}', query="wait=1ms")
    assert soon.status in (200, 202)
    assert soon.json["events"][0]["runs"][0]["pipeline"] == "p"
    for text in ("", "soon", "-1s"):
        assert (await gate.post("/hooks/wait", b'{"id": "d", "code": 0}', query=f"wait={text}")).status == 400
    assert "runs" not in (await gate.post("/hooks/in", query="wait=10s")).json["events"][0]  # not offered there


class _Running:
    """A store in which one run goes on for ever."""

    def __init__(self) -> None:
        self.looked = 0

    async def read(self, _look: Any) -> Any:
        self.looked += 1
        return {"evt": [{"uid": "run", "pipeline": "p", "state": "running"}]}


async def test_those_who_wait_are_answered_when_the_service_stops() -> None:
    """A stop does not hang on a long run: whoever waits is told how it stands, and nobody waits after that."""
    clock, store = VirtualClock(), _Running()
    waiter = RunWaiter(store, clock)  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(waiter.wait(["evt"], 60.0))
    await clock.advance(5)
    assert not waiting.done()
    waiter.close()
    found, ended = await waiting
    assert (found["evt"][0]["state"], ended) == ("running", False)
    assert (await waiter.wait(["evt"], 60.0))[1] is False


async def test_a_wait_ends_in_time_and_looks_ever_more_rarely() -> None:
    """A sender is answered when its time is over; a minute costs some hundred looks at most."""
    clock, store = VirtualClock(), _Running()
    waiting = asyncio.ensure_future(RunWaiter(store, clock).wait(["evt"], 60.0))  # type: ignore[arg-type]
    await clock.advance(59.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert (await waiting)[1] is False
    assert store.looked < 150


async def test_an_answer_of_the_senders_liking(gate: Running) -> None:
    """The configured answer comes once the event is durable."""
    answer = await gate.post("/hooks/answer")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"<ok/>", "text/xml")
    assert len(await gate.events()) == 1


# -- refusals ----------------------------------------------------------------------------------------------------------
async def test_a_refusal_shows_what_came_without_its_secrets(gate: Running) -> None:
    """Method, plain headers, names of the query and the size are kept, and no more of the body than was asked for."""
    body = b'{"card": "4111111111111111"}'
    headers = {"x-sig": "geheim", "authorization": "Bearer geheim", "x-tenant": "acme", "cookie": "geheim"}
    await gate.post("/hooks/kept", body, headers, query="token=geheim&page=geheim")
    seen = gate.service.refusals.last("kept")[0].seen
    assert (seen.method, seen.size, seen.query) == ("POST", len(body), ("token", "page"))
    assert seen.headers == {"content-type": "application/json", "x-tenant": "acme"}
    assert seen.body == '{"card": "411111'
    assert "geheim" not in repr(seen)
    await gate.post("/hooks/slow", body)
    assert gate.service.refusals.last("slow")[0].seen.body == ""


async def test_a_token_in_the_address_is_kept_from_caches(gate: Running) -> None:
    """Who can set no headers may send the token in the query; the answer says that it is for nobody else."""
    answer = await gate.post("/hooks/slow", query="access_token=s3cret")
    assert (answer.status, answer.headers["cache-control"]) == (202, "private, no-store")
    (row,) = await gate.events()
    assert "s3cret" not in repr(row)
    assert "cache-control" not in (await gate.post("/hooks/in")).headers


async def test_two_endpoints_that_mean_the_same_path_are_told(tmp_path: Path) -> None:
    """A check finds paths that differ in nothing but the names of what they capture."""
    text = TEXT.replace("path: /hooks/acme/orders", 'path: "/hooks/{shop}/orders"')
    with pytest.raises(ConfigProblems, match=r"is taken by sensors\.tenants\.path"):
        await load(tmp_path, text)


async def test_a_signed_delivery_passes_beside_them(gate: Running) -> None:
    """What is kept of refusals changes nothing for what is good."""
    signature = hmac.new(b"s", b"{}", hashlib.sha256).hexdigest()
    assert (await gate.post("/hooks/kept", b"{}", {"x-sig": signature})).status == 202
    await until(lambda: not gate.service.refusals.last("kept"))
