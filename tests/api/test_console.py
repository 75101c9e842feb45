"""The console: everything from outside is text in it, nothing is loaded from elsewhere."""

import re
from html.parser import HTMLParser

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.house import EVIL, FakeHouse
from tidegate.web.html import tag, text

_URL = re.compile(r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)""")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.said.extend(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def _check(answer: httpx.Response) -> None:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    parser = _Tags()
    parser.feed(answer.text)
    assert parser.found.count("script") <= 1
    assert "alert(1)" not in "".join(_scripts(answer.text))
    assert not [name for name in parser.said if name.startswith("on") and name in ("onclick", "onload", "onerror")]
    assert all(url.startswith(("/", "data:,")) for url in _URL.findall(answer.text))
    assert "style=" not in answer.text


def _scripts(page: str) -> list[str]:
    return re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)


async def test_the_overview_shows_what_there_is(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Sensors with health, triggers with counts, runs with their causing event; all text, none of it markup."""
    answer = await client.get("/")

    assert answer.status_code == 200
    _check(answer)
    for said in ("landing", "healthy", "orders-arrived", "succeeded", "failed", "queued", "a.csv", "dead letters"):
        assert said in answer.text
    assert EVIL not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text


async def test_a_run_shows_tasks_lineage_and_log(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A run's page shows why it ran, what failed, what was logged, with hostile text made harmless."""
    uid = (await client.get("/api/v1/runs?state=failed")).json()["items"][0]["uid"]

    answer = await client.get(f"/console/runs/{uid}")

    _check(answer)
    for said in ("extract", "load", "failed", "b.csv", "reading a.csv", "careful", "64.0 MiB"):
        assert said in answer.text
    assert EVIL not in answer.text


async def test_an_event_shows_decisions_and_content(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """An event's page shows what it holds and what came of it."""
    for row in (await client.get("/api/v1/events")).json()["items"]:
        answer = await client.get(f"/console/events/{row['uid']}")

        assert answer.status_code == 200
        _check(answer)
        assert EVIL not in answer.text


async def test_an_event_says_why_it_did_not_fire(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Its page tells each verdict with the clause that failed and what would turn it, and who does not listen."""
    rows = {row["subject"]: row["uid"] for row in (await client.get("/api/v1/events")).json()["items"]}
    page = (await client.get(f"/console/events/{rows['small.csv']}")).text

    assert "event.data.size &gt; 10" in page
    assert "would do: <code>make data.size 11</code>" in page
    assert "2 other triggers do not listen to it" in page
    assert "the trigger is disabled (enabled: false)" in page


@pytest.mark.parametrize("path", ["/console/runs/run_x", "/console/events/%3Cscript%3E", "/console/runs/%00"])
async def test_what_is_not_there_is_a_page_too(path: str, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """An unknown run or event is a 404, and its name is not echoed as markup."""
    answer = await client.get(path)

    assert answer.status_code == 404
    assert "<script>" not in answer.text


async def test_the_overview_says_that_the_store_is_away(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A page is shown, and comes back by itself, when the store cannot answer."""
    house.down = True

    answer = await client.get("/")

    assert (answer.status_code, "cannot answer now" in answer.text) == (503, True)


@pytest.mark.parametrize("path", ["/console/style.css", "/console/console.js", "/api/docs", "/console/login"])
async def test_assets_load_nothing_from_elsewhere(path: str, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """No style, script or document names another server."""
    answer = await client.get(path)

    assert answer.status_code == 200
    assert not re.search(r"https?://(?!www\.w3\.org)", answer.text)


@given(st.text())
def test_text_never_becomes_markup(words: str) -> None:
    """Any text survives as text, in content and in attributes, lone surrogates aside."""
    parser = _Tags()
    parser.feed(tag("p", title=words)(words))

    assert parser.found == ["p"]
    assert "<" not in text(words)
    assert '"' not in text(words)
