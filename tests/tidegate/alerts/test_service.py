"""Alerts of a whole service: from what goes wrong to what a real receiver gets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from config.model import ServiceConfig
from tests.support.aws import Aws, running_ministack
from tests.support.http_sink import Sink, http_sink
from tests.support.running import Running, load, running, until
from tests.support.smtp import Mailbox, mail_server

pytestmark = [
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # by a plug-in of apprise
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),  # by the mail server
]
TEXT = """
service: {{name: svc, store: "sqlite:///store.db", dispatch: {{poll: 100ms}}, url: "https://gate.test"}}
alerts:
  oncall:
    to: "{to}"
    events: [run_failed, sensor_unhealthy, event_refused, dead_letter, trigger_error, config_refused, resolved]
    match: {{severity: error, tag: finance}}
    group_wait: 300ms
{more}
sensors:
  landing:
    kind: files
    path: ./inbox
    start: beginning
    settle: 0s
    every: 300ms
    tags: [finance]
    expect: {{columns: [id, amount], mode: at_least}}
  other: {{kind: webhook, path: /hooks/other, verify: none, tags: [marketing]}}
  hook: {{kind: webhook, path: /hooks/in, verify: none, tags: [finance]}}
triggers:
  loads: {{on: {{sensor: landing}}, run: {{pipeline: fails}}}}
  calls: {{on: {{sensor: hook}}, when: "event.data.n > 1", run: {{pipeline: works}}}}
  others: {{on: {{sensor: other}}, run: {{pipeline: fails}}}}
pipelines:
  fails: {{engine: command, argv: [sh, -c, "echo no such table >&2; exit 3"]}}
  works: {{engine: command, argv: ["true"]}}
"""


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async def taken(request: web.Request) -> web.Response:
        return web.Response()

    async with http_sink(taken) as opened:
        yield opened


@pytest.fixture(scope="module")
def ministack() -> Iterator[Aws]:
    """S3, once for these tests."""
    with running_ministack() as server:
        yield server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


async def prepared(folder: Path, text: str) -> ServiceConfig:
    """Make the folder that is watched, and read the configuration."""
    await asyncio.to_thread((folder / "inbox").mkdir)
    return await load(folder, text)


def told(sink: Sink) -> list[Any]:
    return [orjson.loads(body) for body in sink.bodies]


async def got(sink: Sink, kind: str, what: str = "alert") -> Any:
    """Wait for the first message of a kind."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = [body for body in told(sink) if body.get("kind") == kind and body["what"] == what]
        return bool(found)

    await until(there, 20)
    return found[0]


async def test_what_goes_wrong_reaches_those_who_asked_for_it(tmp_path: Path, sink: Sink) -> None:
    """A refused file, a failed run, a failing rule: each its message; what has another tag is not told."""
    config = await prepared(tmp_path, TEXT.format(to=f"{sink.url}/hook", more=""))
    async with running(config) as gate:
        await gate.post("/hooks/other", b"{}")
        await gate.finished(1)
        await gate.post("/hooks/in", b'{"n": "text"}')
        await asyncio.to_thread((tmp_path / "inbox" / "bad.csv").write_text, "id,price\n1,2\n")
        error, refused = await got(sink, "trigger_error"), await got(sink, "event_refused")
        await asyncio.to_thread((tmp_path / "inbox" / "good.csv").write_text, "id,amount\n1,2\n")
        failed = await got(sink, "run_failed")
        runs = await gate.runs(pipeline="fails")

    assert error["title"].startswith("[svc] ERROR trigger failed on an event: trigger calls, since ")
    assert error["text"].splitlines()[0] == "when failed: cannot apply > to (string, int)"
    assert error["link"].startswith("https://gate.test/console/events/evt_")
    assert refused["subject"] == "landing"
    assert "bad.csv" in refused["text"]
    assert "amount" in refused["text"]
    assert refused["alerts"][0]["labels"] == {"sensor": "landing", "tags": ["finance"]}
    assert failed["link"] == f"https://gate.test/console/runs/{runs[1]['uid']}"
    assert failed["subject"] == "fails"
    assert "no such table" in failed["text"].splitlines()[0]
    assert sum(body["count"] for body in told(sink) if body["kind"] == "run_failed") == 1


async def test_a_changed_configuration_that_is_refused_is_told(tmp_path: Path, sink: Sink) -> None:
    """Who saves a bad file learns of it where alerts go, and that a good one is in force again."""
    text = TEXT.format(to=f"{sink.url}/hook", more="").replace("severity: error, tag: finance", "severity: error")
    config = await prepared(tmp_path, text)
    async with running(config) as gate:
        await gate.service.refused("tidegate.yaml:3:4 sensors.x: unknown key")
        refused = await got(sink, "config_refused")
        await gate.service.reload(config)
        resolved = await got(sink, "config_refused", "resolved")

    assert refused["title"].startswith("[svc] ERROR changed configuration refused: service svc, since ")
    assert refused["text"].splitlines()[0] == "tidegate.yaml:3:4 sensors.x: unknown key"
    assert resolved["title"].startswith("[svc] RESOLVED configuration is accepted: service svc, after ")


async def test_a_sensor_that_is_ill_and_recovers_is_told_by_mail(tmp_path: Path, mailbox: Mailbox) -> None:
    """Unhealthy, then recovered, as mails whose first line says all."""
    await asyncio.to_thread((tmp_path / "alert-url").write_text, mailbox.url())
    config = await prepared(tmp_path, TEXT.format(to="${file:alert-url}", more=""))
    async with running(config) as gate:
        folder = tmp_path / "inbox"
        await until(lambda: gate.service.sensor_health()["landing"]["state"] == "healthy")
        await asyncio.to_thread(folder.rename, tmp_path / "away")
        await until(lambda: len(mailbox.mails) == 1, 25)
        await asyncio.to_thread((tmp_path / "away").rename, folder)
        await until(lambda: len(mailbox.mails) == 2, 25)

    first, second = (str(mail["Subject"]) for mail in mailbox.mails)
    assert first.startswith("[svc] ERROR sensor is unhealthy: sensor landing, since ")
    assert second.startswith("[svc] RESOLVED sensor recovered: sensor landing, after ")


MANIFEST = """
service: {{name: svc, store: 'sqlite:///store.db'}}
alerts:
  oncall: {{to: "{to}", events: [set_overdue, resolved], group_wait: 200ms}}
sensors:
  lake:
    kind: s3
    bucket: {bucket}
    endpoint_url: '{url}'
    region: us-east-1
    credentials: {{access_key_id: test, secret_access_key: '${{env:S3_SECRET:-test}}'}}
    start: beginning
    every: 300ms
    pattern: "d/{{name}}.csv"
    manifest: {{name: d/manifest.json, files: body, within: 1s}}
"""


@pytest.mark.integration
async def test_an_overdue_manifest_is_told_and_resolved(tmp_path: Path, ministack: Aws, sink: Sink) -> None:
    """A manifest that misses a file for too long is an alert of its own kind; when the file comes, it is resolved."""
    with ministack.bucket() as bucket:
        text = MANIFEST.format(bucket=bucket.name, url=ministack.endpoint, to=sink.url)
        await asyncio.to_thread(bucket.put, "d/manifest.json", b'["a.csv", "b.csv"]')
        await asyncio.to_thread(bucket.put, "d/a.csv", b"abc")
        async with running(await load(tmp_path, text)) as gate:
            overdue = await got(sink, "set_overdue")
            await asyncio.to_thread(bucket.put, "d/b.csv", b"abc")
            resolved = await got(sink, "set_overdue", "resolved")
            events = await gate.events(sensor="lake")

    assert overdue["subject"] == "lake"
    assert "d/manifest.json is not complete within 1s" in overdue["text"]
    assert "1 of 2 files are missing: d/b.csv" in overdue["text"]
    assert "no set of files is overdue any more" in resolved["text"]
    assert len(events) == 1


async def test_a_route_that_is_down_is_visible_and_works_later(tmp_path: Path) -> None:
    """Health, metrics and list name the route, never its secret; a test message says the same at once."""
    down = True

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=500 if down else 200)

    async with http_sink(answer) as sink:
        config = await prepared(tmp_path, TEXT.format(to=f"{sink.url}/s3cr3t-hook", more=""))
        async with running(config) as gate:
            await gate.post("/hooks/in", b'{"n": "text"}')
            await until(lambda: bool(gate.service.undelivered()), 20)
            (undelivered,) = gate.service.undelivered()
            (row,), _ = await gate.service.store.read(lambda reader: reader.alerts(limit=9))
            (tried,) = await gate.service.test_alert("oncall")
            metrics = gate.service.metrics_text()
            assert gate.service.ready() == (True, "")
            down = False
            (works,) = await gate.service.test_alert("oncall")
            with pytest.raises(KeyError):
                await gate.service.test_alert("nobody")
            await _sent(gate)

    assert (undelivered.route, undelivered.messages, undelivered.error) == ("oncall", 1, "answered 500")
    assert row["deliveries"][0]["error"] == "answered 500"
    assert (tried.target, tried.ok, tried.error) == (sink.url, False, "answered 500")
    assert works.ok
    assert 'tidegate_alert_undelivered{alert_route="oncall"} 1' in metrics
    assert "s3cr3t" not in f"{undelivered} {row} {tried} {metrics}"
    assert [body["what"] for body in told(sink)].count("test") == 2


async def _sent(gate: Running) -> None:
    """Wait until all alerts are sent."""
    async with asyncio.timeout(30):
        while True:
            rows, _ = await gate.service.store.read(lambda reader: reader.alerts(limit=9))
            if rows and all(row["state"] == "sent" for row in rows):
                return
            await asyncio.sleep(0.05)


JOIN = """
service: {{name: svc, store: "sqlite:///store.db", dispatch: {{poll: 100ms}}}}
alerts: {{oncall: {{to: "{to}", events: [join_overdue]}}}}
sensors: {{hook: {{kind: webhook, path: /hooks/in, verify: none}}}}
triggers:
  pair:
    join:
      of:
        a: {{sensor: hook, by: event.data.day, when: event.data.part == "a"}}
        b: {{sensor: hook, by: event.data.day, when: event.data.part == "b"}}
      within: 500ms
    run: {{pipeline: p}}
    overdue: {{alert: {alert}}}
pipelines: {{p: {{engine: command, argv: ["true"]}}}}
"""


async def test_an_overdue_join_names_what_is_missing(tmp_path: Path, sink: Sink) -> None:
    """A key that waited in vain is told with its name and the part that did not come."""
    async with running(await load(tmp_path, JOIN.format(to=f"{sink.url}/hook", alert="true"))) as gate:
        await gate.post("/hooks/in", b'{"day": "monday", "part": "a"}')
        overdue = await got(sink, "join_overdue")

    assert overdue["subject"] == "pair"
    assert overdue["text"].startswith("monday: ")
    assert "b" in overdue["text"].splitlines()[0].removeprefix("monday: ")


async def test_a_join_may_be_overdue_in_silence(tmp_path: Path, sink: Sink) -> None:
    """With `overdue: {alert: false}` the decision is there, and nobody is told."""
    async with running(await load(tmp_path, JOIN.format(to=f"{sink.url}/hook", alert="false"))) as gate:
        await gate.post("/hooks/in", b'{"day": "monday", "part": "a"}')

        async def overdue() -> bool:
            return any(row["outcome"] == "overdue" for row in await gate.decisions(trigger="pair"))

        async with asyncio.timeout(20):
            while not await overdue():
                await asyncio.sleep(0.05)
        alerts = await gate.service.store.read(lambda reader: reader.alerts(limit=10))

    assert list(alerts[0]) == []
    assert told(sink) == []
