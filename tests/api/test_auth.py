"""The gate: who gets in, and what a page elsewhere, a forwarder or a stolen cookie cannot do."""

from collections.abc import AsyncIterator

import pytest

from sensors.clock import SystemClock
from tests.support.asking import client_of
from tests.support.house import FakeHouse
from tidegate.api.auth import COOKIE, MAX_BODY, is_loopback
from tidegate.tokens import AddToken, Scope, mint

PUBLIC = "0.0.0.0:8080"


async def _token(house: FakeHouse, scope: Scope) -> str:
    token, text = mint(f"t-{scope}", scope, SystemClock().now())
    await house.real_store.submit(AddToken(), token)
    return text


@pytest.mark.parametrize(
    "authority", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:8080", "[::1]", "[::1]:8080"], ids=str
)
def test_written_as_this_machine(authority: str) -> None:
    """Localhost and loopback addresses, with or without port, are this machine."""
    assert is_loopback(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "127.0.0.1:80:80",
        "127.0.0.1@evil:80",
        "0.0.0.0:80",
        "[::1",
        "[::1]evil",
        "[::]:80",
        "10.0.0.1",
        "localhost.",
        "127.1",
        "2130706433",
        "localhost:8x",
    ],
    ids=str,
)
def test_not_written_as_this_machine(authority: str) -> None:
    """Nothing else is, however much it looks like it."""
    assert not is_loopback(authority)


async def test_loopback_needs_no_token(house: FakeHouse) -> None:
    """On a loopback bind this machine's user may do everything without a token."""
    async with client_of(house) as client:
        assert (await client.get("/api/v1/runs")).status_code == 200
        assert (await client.post("/api/v1/triggers/everything/pause")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example"}, id="a rebound name"),
        pytest.param({"Host": "evil.example:8080"}, id="a rebound name with our port"),
        pytest.param({"Origin": "https://evil.example"}, id="a page elsewhere"),
        pytest.param({"Origin": "http://127.0.0.1:9999"}, id="another service on this machine"),
        pytest.param({"Origin": "null"}, id="a sandboxed page"),
        pytest.param({"X-Forwarded-For": "1.2.3.4"}, id="forwarded by a proxy"),
        pytest.param({"Forwarded": "for=1.2.3.4"}, id="forwarded by the book"),
        pytest.param({"X-Forwarded-Host": "127.0.0.1"}, id="forwarded host"),
        pytest.param({"X-Real-IP": "1.2.3.4"}, id="forwarded by nginx"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/runs", "/", "/metrics", "/healthz", "/api/openapi.json"])
async def test_loopback_refuses_what_does_not_come_from_here(
    house: FakeHouse, headers: dict[str, str], path: str
) -> None:
    """Without a token nothing is answered to a rebound name, another origin, or anything forwarded."""
    async with client_of(house) as client:
        answer = await client.get(path, headers=headers)

        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")


async def test_our_own_origin_is_let_in(house: FakeHouse) -> None:
    """The console's own page may ask."""
    async with client_of(house) as client:
        answer = await client.post("/api/v1/triggers/everything/pause", headers={"Origin": "http://127.0.0.1:8080"})

        assert answer.status_code == 200


async def test_two_hosts_are_refused(house: FakeHouse) -> None:
    """A request with two Host headers is not guessed at."""
    async with client_of(house) as client:
        request = client.build_request("GET", "/api/v1/runs")
        request.headers = type(request.headers)([("host", "127.0.0.1"), ("host", "evil.example")])

        assert (await client.send(request)).status_code == 403


@pytest.mark.parametrize(
    "path", ["/api/v1/runs", "/api/v1/stream", "/api/openapi.json", "/api/docs", "/metrics", "/nothing/here"]
)
async def test_elsewhere_a_token_is_needed(house: FakeHouse, path: str) -> None:
    """On any other bind everything but health, readiness and the way in asks for a token, unknown paths too."""
    async with client_of(house, PUBLIC) as client:
        answer = await client.get(path)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_health_and_readiness_need_no_token_and_tell_less_without(house: FakeHouse) -> None:
    """Probes have no token; what sensors there are is told only to who has one."""
    token = await _token(house, Scope.READ)
    async with client_of(house, PUBLIC) as client:
        assert (await client.get("/healthz")).status_code == 200
        bare = await client.get("/readyz")
        known = await client.get("/readyz", headers={"Authorization": f"Bearer {token}"})

        assert bare.status_code == known.status_code == 200
        assert bare.json()["sensors"] is None
        assert list(known.json()["sensors"]) == ["landing"]


@pytest.mark.parametrize("scope", list(Scope))
async def test_scopes(house: FakeHouse, scope: Scope) -> None:
    """Reading needs read; anything that changes something needs operate."""
    headers = {"Authorization": f"Bearer {await _token(house, scope)}"}
    async with client_of(house, PUBLIC, headers=headers) as client:
        read = await client.get("/api/v1/runs")
        changed = await client.post("/api/v1/triggers/everything/pause")

        assert read.status_code == 200
        assert changed.status_code == (403 if scope is Scope.READ else 200)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic dGRnXzox",
        "bearer tdg_00000000000000000000000000_" + "0" * 64,
        "\x00",
        "é",
    ],
)
@pytest.mark.parametrize("listen", ["127.0.0.1:8080", PUBLIC])
async def test_a_wrong_token_is_worse_than_none(house: FakeHouse, authorization: str, listen: str) -> None:
    """A token that opens nothing is refused, on loopback too, so that a mistake is seen."""
    async with client_of(house, listen) as client:
        answer = await client.get("/api/v1/runs", headers={b"Authorization": authorization.encode("latin-1")})

        assert answer.status_code == 401


async def test_a_browser_session_reads_and_cannot_change(house: FakeHouse) -> None:
    """The cookie of a session, which a browser sends by itself, opens reading only."""
    token = await _token(house, Scope.ADMIN)
    async with client_of(house, PUBLIC, follow_redirects=False) as client:
        assert (await client.get("/")).headers["location"] == "/console/login"
        refused = await client.post("/console/login", data={"token": "wrong"})
        entered = await client.post("/console/login", data={"token": token})

        assert (refused.headers["location"], entered.headers["location"]) == ("/console/login?refused", "/")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/v1/runs")).status_code == 200
        assert (await client.post("/api/v1/triggers/everything/pause")).status_code == 403
        assert (await client.post("/console/logout")).status_code == 303
        assert COOKIE not in client.cookies


async def test_another_site_cannot_log_a_browser_in(house: FakeHouse) -> None:
    """A form on another site cannot make a browser's session."""
    token = await _token(house, Scope.READ)
    async with client_of(house, PUBLIC) as client:
        answer = await client.post("/console/login", data={"token": token}, headers={"Origin": "https://evil.example"})

        assert answer.status_code == 403


async def test_bodies_are_capped(house: FakeHouse) -> None:
    """A body over the cap is refused, declared or not, and never parsed."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 2):
            yield b'"' + b"x" * 999

    async with client_of(house) as client:
        headers = {"Content-Type": "application/json"}
        declared = await client.post("/api/v1/runs", content=b"x" * (MAX_BODY + 1), headers=headers)
        streamed = await client.post("/api/v1/runs", content=chunks(), headers=headers)

        assert (declared.status_code, streamed.status_code) == (413, 413)
        assert streamed.headers["content-type"] == "application/problem+json"


async def test_answers_carry_the_headers_of_safety(house: FakeHouse) -> None:
    """Every answer, errors too, forbids sniffing, framing and keeping."""
    async with client_of(house) as client:
        for path in ("/api/v1/runs", "/nothing", "/", "/healthz"):
            headers = (await client.get(path)).headers

            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cache-control"] == "no-store"


async def test_a_store_that_is_away_does_not_open_the_gate(house: FakeHouse) -> None:
    """When tokens cannot be looked up the answer is 503, never access; health still answers."""
    house.real_store = house.store
    async with client_of(house, PUBLIC, headers={"Authorization": "Bearer x"}) as client:
        house.down = True

        answer = await client.get("/api/v1/runs")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "4")
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("scope", list(Scope))
async def test_tokens_are_for_admins(house: FakeHouse, scope: Scope) -> None:
    """Only an admin's token lists, makes and revokes tokens: nobody gives himself more than he has."""
    headers = {"Authorization": f"Bearer {await _token(house, scope)}"}
    async with client_of(house, PUBLIC, headers=headers) as client:
        listed = await client.get("/api/v1/tokens")
        made = await client.post("/api/v1/tokens", json={"name": "mine", "scope": "admin"})

        allowed = scope is Scope.ADMIN
        assert (listed.status_code, made.status_code) == ((200, 201) if allowed else (403, 403))
        if not allowed:
            return
        again = await client.post("/api/v1/tokens", json={"name": "mine"})
        new = {"Authorization": f"Bearer {made.json()['token']}"}
        assert again.status_code == 409
        assert (await client.get("/api/v1/tokens", headers=new)).status_code == 200
        assert (await client.delete(f"/api/v1/tokens/{made.json()['id']}")).status_code == 204
        assert (await client.delete(f"/api/v1/tokens/{made.json()['id']}")).status_code == 404
        assert (await client.get("/api/v1/tokens", headers=new)).status_code == 401
