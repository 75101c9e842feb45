"""Being let in: every mechanism and certificate that a real broker offers, and why one is not let in, in a sentence."""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from sensors.adapters.kafka_access import OAuth
from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_security import Tokens, security
from sensors.clock import SystemClock
from sensors.errors import NotConnected
from sensors.testing import VirtualClock
from tests.support.http_sink import http_sink
from tests.support.kafka import Kafka
from tests.support.kafka_bench import SENSOR, KafkaBench, made, send

TLS = {"ca": "ca.pem"}
OURS = {"ca": "ca.pem", "cert": "client.crt", "key": "client.key"}


def _sasl(kafka: Kafka, mechanism: str, password: str = "") -> Mapping[str, Any]:
    return {"mechanism": mechanism, "username": kafka.user, "password": password or kafka.password}


def _bench(kafka: Kafka, topic: str, **options: Any) -> KafkaBench:
    assert kafka.certificates is not None
    return KafkaBench(kafka, {"topics": [topic], **options}, kafka.certificates)


@pytest.mark.integration
@pytest.mark.apache_kafka
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(lambda k: {"brokers": [k.sasl], "sasl": _sasl(k, "PLAIN")}, id="plain"),
        pytest.param(lambda k: {"brokers": [k.sasl], "sasl": _sasl(k, "SCRAM-SHA-256")}, id="scram-256"),
        pytest.param(
            lambda k: {"brokers": [k.sasl_ssl], "tls": TLS, "sasl": _sasl(k, "SCRAM-SHA-512")}, id="scram-512 over tls"
        ),
        pytest.param(lambda k: {"brokers": [k.ssl], "tls": OURS}, id="certificate"),
    ],
)
async def test_it_is_let_in(apache_kafka: Kafka, options: Callable[[Kafka], Mapping[str, Any]]) -> None:
    """Records are read through each listener."""
    topic = await made(apache_kafka)
    await send(apache_kafka, topic, [b'{"n":1}'])
    bench = _bench(apache_kafka, topic, **options(apache_kafka))
    async with bench.running():
        (event,) = await bench.events(1)

    assert event.id == f"{topic}#0/0/0"


@pytest.mark.integration
@pytest.mark.apache_kafka
@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            lambda k: {"brokers": [k.sasl], "sasl": _sasl(k, "PLAIN", "wrong")},
            ("refused who we are", "Invalid username or password", "`sasl`"),
            id="password",
        ),
        pytest.param(
            lambda k: {"brokers": [k.sasl], "sasl": _sasl(k, "SCRAM-SHA-512", "wrong")},
            ("refused who we are", "`sasl`"),
            id="scram password",
        ),
        pytest.param(
            lambda k: {"brokers": [k.ssl], "tls": True}, ("CERTIFICATE_VERIFY_FAILED", "`tls`"), id="authority"
        ),
        pytest.param(lambda k: {"brokers": [k.ssl]}, ("no broker answers", "`tls`"), id="no tls"),
        pytest.param(
            lambda k: {"brokers": [k.bootstrap], "tls": True}, ("cannot be reached", "`tls`"), id="too much tls"
        ),
        pytest.param(lambda k: {"brokers": [k.sasl]}, ("no broker answers", "`sasl`"), id="nobody"),
        pytest.param(lambda _: {"brokers": ["127.0.0.1:9"]}, ("127.0.0.1:9 cannot be reached",), id="no broker"),
    ],
)
async def test_why_it_is_not_let_in_is_said(
    apache_kafka: Kafka, options: Callable[[Kafka], Mapping[str, Any]], words: tuple[str, ...]
) -> None:
    """The client library tells only that it reached nobody; the sensor names the cause and what to look at."""
    bench = _bench(apache_kafka, "orders", **options(apache_kafka))
    with pytest.raises(NotConnected) as caught:
        await bench.sensor().connect({}, bench.inbox.lookup(SENSOR), bench.prefilter)

    assert [word for word in words if word not in str(caught.value)] == []


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    """A file that is not there is the configuration's mistake, and says so when the sensor connects."""
    options = KafkaOptions.model_validate(
        {"brokers": ["k:9092"], "topics": ["t"], "start": "now", "tls": {"ca": "missing.pem"}}
    )
    with pytest.raises(NotConnected, match="certificates of `tls` cannot be read"):
        security(options.secure, options.sasl, tmp_path, SystemClock())


def test_the_host_may_go_unchecked(tmp_path: Any) -> None:
    """`check_hostname: false` is for brokers behind another name; the authority is checked all the same."""
    tls = {"check_hostname": False}
    options = KafkaOptions.model_validate({"brokers": ["k:9092"], "topics": ["t"], "start": "now", "tls": tls})
    context = security(options.secure, options.sasl, tmp_path, SystemClock())["ssl_context"]

    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)


# -- tokens ------------------------------------------------------------------------------------------------------------
class TokenDoor:
    """A token endpoint: gives tokens by number, or what it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.answer: Callable[[], web.Response] | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append((request.headers.get("authorization", ""), form))
        if self.answer is not None:
            return self.answer()
        return web.json_response({"access_token": f"t-{len(self.asked)}", "expires_in": 300})


@pytest.fixture
async def door() -> AsyncIterator[tuple[TokenDoor, str]]:
    served = TokenDoor()
    async with http_sink(served) as sink:
        yield served, f"{sink.url}/token"


def _tokens(url: str, clock: VirtualClock) -> Tokens:
    return Tokens(OAuth.model_validate({"token_url": url, "client_id": "a", "client_secret": "b", "scope": "s"}), clock)


async def test_a_token_is_fetched_once_and_again_before_it_ends(door: tuple[TokenDoor, str]) -> None:
    """Client credentials are exchanged; a token is used until shortly before its end."""
    served, url = door
    clock = VirtualClock()
    tokens = _tokens(url, clock)
    first = [await tokens.token(), await tokens.token()]
    await clock.advance(269)
    still = await tokens.token()
    await clock.advance(2)
    second = await tokens.token()

    assert (first, still, second) == (["t-1", "t-1"], "t-1", "t-2")
    assert served.asked[0] == ("Basic YTpi", {"grant_type": "client_credentials", "scope": "s"})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: web.Response(status=401), "gives no token (status 401)"),
        (lambda: web.Response(status=302, headers={"location": "http://elsewhere/"}), "status 302"),
        (lambda: web.json_response({"token": "x"}), "without an access_token"),
        (lambda: web.Response(text="<html>"), "without an access_token"),
        (lambda: web.Response(text="x" * (2 << 20)), "more than a token"),
    ],
)
async def test_a_token_that_is_not_given_is_explained(
    door: tuple[TokenDoor, str], answer: Callable[[], web.Response], words: str
) -> None:
    """Whatever the endpoint answers instead, the sentence names it and the option."""
    served, url = door
    served.answer = answer
    with pytest.raises(NotConnected) as caught:
        await _tokens(url, VirtualClock()).token()

    assert words in str(caught.value)
    assert url in str(caught.value)


async def test_an_endpoint_that_is_away_is_named() -> None:
    """Nobody answers: the url is in the sentence, the secret is not."""
    with pytest.raises(NotConnected, match=r"http://127\.0\.0\.1:9/token cannot be asked for a token"):
        await _tokens("http://127.0.0.1:9/token", VirtualClock()).token()
