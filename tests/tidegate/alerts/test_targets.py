"""Where messages go, over real sockets: what receivers get, and what is said when they do not take it."""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given, strategies

from tests.support.http_sink import Handler, http_sink
from tests.support.smtp import PASSWORD, Mailbox, mail_server
from tidegate.alerts.message import Place, trial_body
from tidegate.alerts.targets import Answer, Discretion, make_target, shown

pytestmark = [
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # by a plug-in of apprise
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),  # by the mail server
]
BODY = trial_body("alm_test", Place("svc", "oncall", "http://gate.test"), 1_800_000_000_000_000)
TOKEN = "T0ps3cr3tT0k3n"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


async def send(url: str) -> Answer:
    target = make_target(url, "tidegate/9.9.9")
    try:
        return await target.send(BODY)
    finally:
        await target.close()


async def test_http_gets_the_body_once_with_its_id() -> None:
    """One POST of JSON, with the id that lets a receiver drop repeats; any 2xx takes it."""
    async with http_sink(_answer(202)) as sink:
        answer = await send(f"{sink.url}/hooks/{TOKEN}")

    (request,) = sink.requests
    assert answer == Answer(ok=True)
    assert (request.method, request.path) == ("POST", f"/hooks/{TOKEN}")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "alm_test"
    assert request.headers["User-Agent"] == "tidegate/9.9.9"
    assert json.loads(sink.bodies[0]) == BODY


@pytest.mark.parametrize(
    ("status", "headers", "error", "wait"),
    [
        (500, {}, "answered 500: no luck with http://127.0.0.1", 0.0),
        (404, {}, "answered 404", 0.0),
        (429, {"Retry-After": "120"}, "answered 429", 120.0),
        (503, {"Retry-After": "never"}, "answered 503", 0.0),
        (302, {"Location": "http://elsewhere.test/"}, "answered 302", 0.0),
    ],
)
async def test_http_that_does_not_take_it(status: int, headers: dict[str, str], error: str, wait: float) -> None:
    """Anything else is a reason, without the URL's secrets although the receiver repeats them; nothing is followed."""
    async with http_sink(_answer(status, headers, f"no luck with http://127.0.0.1/{TOKEN} ({TOKEN})")) as sink:
        answer = await send(f"{sink.url}/hooks/{TOKEN}?key={TOKEN}")

    assert not answer.ok
    assert answer.error.startswith(error)
    assert answer.wait == wait
    assert TOKEN not in answer.error
    assert len(sink.requests) == 1


async def test_nobody_listens() -> None:
    """A receiver that is not there is a reason as well, without the URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answer = await send(f"http://user:{TOKEN}@127.0.0.1:{port}/{TOKEN}")

    assert not answer.ok
    assert f"127.0.0.1:{port}" in answer.error
    assert TOKEN not in answer.error


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]"])
async def test_metadata_services_are_never_called(host: str) -> None:
    """Whatever the operator wrote: link-local and metadata addresses are refused before anything is sent."""
    answer = await send(f"http://{host}/latest/")

    assert not answer.ok
    assert "never called" in answer.error


async def test_http_that_hangs_ends() -> None:
    """A receiver that never answers costs one attempt its time, no more."""
    from tidegate.alerts.http_target import HttpTarget

    hang = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response()

    async with http_sink(never) as sink:
        target = HttpTarget(f"{sink.url}/x", "t", timeout=0.2)
        answer = await target.send(BODY)
        hang.set()
        await target.close()

    assert answer == Answer(ok=False, error="no answer within 0.2 s")


async def test_mail_arrives(mailbox: Mailbox) -> None:
    """Apprise brings title and text to a mail server as they are."""
    answer = await send(mailbox.url())

    assert answer == Answer(ok=True)
    (mail,) = mailbox.mails
    assert mail["Subject"] == BODY["title"]
    assert mail["To"] == "oncall@gate.test"
    assert mail.get_content().replace("\r\n", "\n").strip() == BODY["text"]


async def test_mail_that_is_refused_says_why(mailbox: Mailbox, capfd: pytest.CaptureFixture[str]) -> None:
    """What apprise knows of a failure becomes the reason; neither it nor the log shows the password."""
    wrong = await send(mailbox.url("wr0ng-passw0rd"))
    mailbox.refuse = f"550 no mail for {PASSWORD}"
    refused = await send(mailbox.url())

    assert not wrong.ok
    assert not refused.ok
    assert "550" in refused.error
    for said in (wrong.error, refused.error, *capfd.readouterr()):
        assert PASSWORD not in said
        assert "wr0ng-passw0rd" not in said


async def test_a_scheme_that_nobody_knows_is_named() -> None:
    """A URL that apprise makes nothing of is a reason, not an exception."""
    answer = await send(f"nosuch://{TOKEN}/x")

    assert answer.error.startswith("apprise knows no service for nosuch://***")
    assert TOKEN not in answer.error


async def test_without_apprise_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who did not install the extra is told which one it is."""
    monkeypatch.setitem(sys.modules, "apprise", None)

    answer = await send("mailto://gate@127.0.0.1")

    assert answer == Answer(ok=False, error="it needs the package apprise: install `tidegate[alerts]`")


async def test_an_attempt_that_hangs_is_left_behind() -> None:
    """A service that never comes back costs one thread, and further attempts wait until it is gone."""
    from tidegate.alerts.apprise_target import AppriseTarget

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = AppriseTarget(f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=3&cto=3", timeout=0.2)
        first = await target.send(BODY)
        second = await target.send(BODY)
        thread = target._thread
    assert thread is not None
    await asyncio.to_thread(thread.join, 20)

    assert first == Answer(ok=False, error="no answer within 0.2 s")
    assert second == Answer(ok=False, error="the attempt before still hangs")
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://user:secret@hooks.example.com:8443/a/b?token=x", "https://hooks.example.com:8443"),
        ("HTTP://[::1]:80/x", "http://[::1]:80"),
        ("mailto://user:secret@example.com?to=a@b.c", "mailto://example.com"),
        ("slack://TokenA/TokenB/TokenC/#channel", "slack://***"),
        ("tgram://123456789:abcdefg/12315544", "tgram://***"),
        ("http://[broken/x", "http://***"),
        ("http://host:port/x", "http://***"),
        ("mailto://", "mailto://***"),
    ],
)
def test_what_is_seen_of_a_url(url: str, seen: str) -> None:
    """Scheme and machine; where the place of the machine holds a token, the scheme alone."""
    assert shown(url) == seen


SECRETS = strategies.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_~", min_size=8, max_size=40).filter(
    lambda text: text.strip("-_~") == text
)


@given(
    user=SECRETS,
    password=SECRETS,
    part=SECRETS,
    value=SECRETS,
    scheme=strategies.sampled_from(["http", "https", "mailto", "slack", "discord", "jsons", "tgram"]),
    words=strategies.lists(
        strategies.sampled_from(["refused", "by", "\n", "'", '"', "(", ")", "→", "429"]), max_size=6
    ),
)
def test_no_secret_of_a_url_is_ever_said(
    user: str, password: str, part: str, value: str, scheme: str, words: list[str]
) -> None:
    """Whatever a failure quotes of the URL, whole or in parts, as it is or percent-encoded, none of it stays."""
    url = f"{scheme}://{user}:{password}@Host.Example/{part}/x?auth={value}"
    rest = url.partition("://")[2]
    texts = (*words, url, password, part, value, quote(password, safe=""), rest, f"/{part}/x?auth={value}", *words)
    said = Discretion(url).sentence(" ".join(texts) + password + "".join(words) + value)

    for secret in (password, part, value):
        assert secret not in said
        assert secret not in shown(url)
    assert len(said) <= 300
    assert said.isprintable()


def _answer(status: int, headers: dict[str, str] | None = None, text: str = "") -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text=text)

    return answer
