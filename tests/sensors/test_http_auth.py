"""Who asks: every scheme reaches the server as it should, and tokens are fetched once, kept, and renewed in time."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from sensors.adapters.http_asking import Answer, Ask
from sensors.adapters.http_auth import ClientCredentials
from sensors.adapters.http_options import OAuth2Auth
from sensors.errors import BackOff, NotConnected
from sensors.hosts import Hosts
from sensors.testing import VirtualClock
from tests.support.http_watch import Watch, make_context
from tests.support.misbehaving_api import MisbehavingApi, Reply, Seen, reply, running_api


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as server:
        yield server


@pytest.mark.parametrize(
    ("auth", "header", "query"),
    [
        pytest.param({"scheme": "bearer", "token": "t-1\n"}, ("Authorization", "Bearer t-1"), {}, id="bearer"),
        pytest.param(
            {"scheme": "basic", "username": "ü", "password": "p:w"},
            ("Authorization", "Basic " + base64.b64encode("ü:p:w".encode()).decode()),
            {},
            id="basic",
        ),
        pytest.param({"scheme": "api_key", "key": "k", "header": "X-Key"}, ("X-Key", "k"), {}, id="header"),
        pytest.param({"scheme": "api_key", "key": "k &", "query": "key"}, None, {"key": "k &"}, id="query"),
    ],
)
async def test_a_scheme_adds_its_proof(
    api: MisbehavingApi, auth: dict[str, Any], header: tuple[str, str] | None, query: dict[str, str]
) -> None:
    """The proof stands where the scheme says, in place of a header of that name that was written by hand."""
    watch = Watch({"url": api.url, "auth": auth, "headers": {"authorization": "by hand"}})
    await watch.poll()
    await watch.close()

    seen = api.seen[0]
    assert seen.query == query
    if header is not None:
        assert seen.headers[header[0]] == header[1]


class Issuer:
    """Issues tokens and takes only the newest."""

    def __init__(self, api: MisbehavingApi) -> None:
        self.issued = 0
        self.forms: list[dict[str, list[str]]] = []
        self.valid = ""
        self.life: Any = 3600
        api.otherwise = self.answer

    def answer(self, seen: Seen) -> Reply:
        if seen.path == "/token":
            self.issued += 1
            self.forms.append(parse_qs(seen.body.decode()))
            self.valid = f"token-{self.issued}"
            return reply({"access_token": self.valid, "token_type": "Bearer", "expires_in": self.life})
        return reply([{"id": 1}]) if seen.headers.get("Authorization") == f"Bearer {self.valid}" else reply({}, 401)


def oauth(api: MisbehavingApi, **more: Any) -> dict[str, Any]:
    token = {"scheme": "oauth2", "token_url": f"{api.url}/token", "client_id": "me", "client_secret": "s&cret", **more}
    return {"url": f"{api.url}/list", "auth": token}


async def test_a_token_is_fetched_once_and_renewed_in_time(api: MisbehavingApi) -> None:
    """It serves until a minute before its end, over reconnects too; the request for it is as the standard says."""
    issuer, clock = Issuer(api), VirtualClock()
    watch = Watch(oauth(api, scopes=["a", "b"], audience="aud"), make_context(clock))
    await watch.poll()
    await watch.close()
    await watch.poll()
    kept = issuer.issued
    await clock.advance(3_541)
    await watch.poll()
    await watch.close()

    assert (kept, issuer.issued) == (1, 2)
    assert issuer.forms[0] == {"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["aud"]}
    assert api.seen[0].headers["Authorization"] == "Basic " + base64.b64encode(b"me:s%26cret").decode()


async def test_client_and_secret_may_go_in_the_body(api: MisbehavingApi) -> None:
    """`send: body` for servers that know no basic authorization."""
    issuer = Issuer(api)
    watch = Watch(oauth(api, send="body"))
    await watch.poll()
    await watch.close()

    assert (issuer.forms[0]["client_id"], issuer.forms[0]["client_secret"]) == (["me"], ["s&cret"])
    assert "Authorization" not in api.seen[0].headers


async def test_a_refused_token_is_fetched_anew_once(api: MisbehavingApi) -> None:
    """A token that was revoked early costs one more request; one that is refused fresh is a sentence, not a loop."""
    issuer = Issuer(api)
    watch = Watch(oauth(api))
    await watch.poll()
    issuer.valid = "another"
    await watch.poll()
    asked = len(api.seen)
    api.otherwise = lambda seen: issuer.answer(seen) if seen.path == "/token" else reply({}, 401)
    with pytest.raises(NotConnected, match="refuses also a fresh token"):
        await watch.poll()

    assert (issuer.issued, asked) == (3, 5)
    assert len(api.seen) == asked + 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply({"error": "invalid_client"}, 401), "correct `client_id`, `client_secret`"),
        (reply({}, 500), "/token failed with an error of its own (500)"),
        (reply({"token": "x"}), "without an `access_token`; correct `token_url`"),
        (Reply(b"<html>"), "without an `access_token`"),
        (reply({"access_token": "a\nb"}), "without an `access_token`"),
    ],
)
async def test_no_token_is_one_sentence(api: MisbehavingApi, answer: Reply, words: str) -> None:
    """What is wrong with the token's own server is told as that, without the secret."""
    watch = Watch(oauth(api))
    api.otherwise = lambda _: answer
    with pytest.raises(NotConnected) as failed:
        await watch.poll()

    assert words in str(failed.value)
    assert "s&cret" not in str(failed.value)


@pytest.mark.parametrize(
    ("life", "at_once", "later"), [(3600, 1, 1), ("3600", 1, 1), (None, 1, 1), (10, 1, 2), (0, 5, 6)]
)
async def test_one_fetches_for_all(life: Any, at_once: int, later: int) -> None:
    """However many ask at once, one request brings the token; odd lifetimes neither loop nor last for ever."""
    clock, asked = VirtualClock(), 0

    async def exchange(ask: Ask) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return Answer(200, {}, json.dumps({"access_token": f"t{asked}", "expires_in": life}).encode(), ask.url)

    options = OAuth2Auth.model_validate(
        {"scheme": "oauth2", "token_url": "https://a.example/t", "client_id": "c", "client_secret": "s"}
    )
    signer = ClientCredentials(options, clock, Hosts(clock))
    ask = Ask("GET", "https://a.example/")
    signed = await asyncio.gather(*(signer.sign(ask, exchange) for _ in range(5)))
    once = asked
    await clock.advance(6)
    await signer.sign(ask, exchange)

    assert {one.headers["Authorization"] for one in signed} >= {"Bearer t1"}
    assert (once, asked) == (at_once, later)


async def test_the_limits_of_the_token_server_are_obeyed(api: MisbehavingApi) -> None:
    """A 429 for the token is waited for as one for the list is."""
    watch = Watch(oauth(api), make_context(VirtualClock()))
    api.script.append(reply({}, 429, {"Retry-After": "9"}))
    with pytest.raises(BackOff, match="asks for patience") as wait:
        await watch.poll()

    assert wait.value.wait == 9.0
