"""What people are told when Azure refuses, is slow, far away or makes no sense: over real HTTP, with the real SDKs."""

import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.storage.filedatalake import AccountSasPermissions, ResourceTypes, generate_account_sas

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.adls_source import AdlsSource
from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.adapters.azure_errors import LONGEST, WAIT, telling
from sensors.errors import BackOff, BadPayload, NotConnected, SensorError
from sensors.testing import VirtualClock
from tests.support.azure import ACCOUNT, KEY, Azurite
from tests.support.fake_azure import FakeAzure, refusal, self_signed
from tests.support.http_sink import Sink
from tests.support.lake import FileSystem
from tests.support.postgres import free_port

OTHER_KEY = "b3RoZXI="


def account(url: str, **how: str) -> AzureAccount:
    given = {"account_url": url, **(how or {"account_key": KEY})}
    return read_account(AzureOptions.model_validate(given), None, {})


def source_at(where: AzureAccount, filesystem: str = "raw") -> AdlsSource:
    return AdlsSource(AdlsClient(where, filesystem), VirtualClock())


async def sentence(source: AdlsSource, kind: type[SensorError] = NotConnected) -> str:
    """Return what opening the source tells; it must hide every secret."""
    with pytest.raises(kind) as caught:
        await source.open()
    told = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in told
    for secret in (KEY, OTHER_KEY, "sig=", "Eby8"):
        assert secret not in told
    await source.close()
    return told


@pytest.fixture
async def fake() -> FakeAzure:
    """What the endpoint answers."""
    return FakeAzure()


@pytest.fixture
async def sink(fake: FakeAzure) -> AsyncIterator[Sink]:
    """The endpoint."""
    async with fake.serve() as sink:
        yield sink


@pytest.fixture
def source(sink: Sink) -> AdlsSource:
    """A source at the endpoint."""
    return source_at(account(f"{sink.url}/acct"))


# -- what real servers answer -----------------------------------------------------------------------------------------
@pytest.mark.integration
async def test_a_wrong_file_system_is_named(lake: Azurite) -> None:
    """The sentence names file system and account's host, and says what to do."""
    told = await sentence(source_at(account(lake.blob_url), "not-there"))
    assert told.startswith(f"file system not-there at {account(lake.blob_url).host}: there is no such file system")
    assert "`filesystem`" in told


@pytest.mark.integration
async def test_a_file_system_that_vanishes_is_no_missing_file(filesystem: FileSystem) -> None:
    """Once the file system is gone nothing looks like an empty listing or a deleted file."""
    source = source_at(account(filesystem.lake.blob_url), filesystem.name)
    await source.open()
    await filesystem.put("f/one")
    await filesystem.client.delete_file_system()
    for asked in (
        lambda: source.page("", None),
        lambda: source.page("f/", None),
        lambda: source.head("f/one"),
        lambda: source.read("f/one", 0, 1),
        lambda: source.delete("f/one", "0x1"),
        lambda: source.copy("f/one", "0x1", "two"),
        lambda: source.move("f/one", "0x1", "two"),
        lambda: source.tag("f/one", "0x1", {"a": "b"}),
    ):
        with pytest.raises(NotConnected, match="no such file system"):
            await asked()
    await filesystem.client.create_file_system()
    assert await source.head("f/one") is None
    await source.close()


@pytest.mark.integration
async def test_a_wrong_key_is_told(filesystem: FileSystem) -> None:
    """A key that is not the account's is named as the cause, and the right one works again."""
    url = filesystem.lake.blob_url
    told = await sentence(source_at(account(url, account_key=OTHER_KEY), filesystem.name))
    assert f"the key is not one of the account `{ACCOUNT}`" in told
    good = source_at(account(url), filesystem.name)
    await good.open()
    await good.close()


def sas(lake: Azurite, ends: datetime, starts: datetime | None = None, **allowed: bool) -> str:
    kinds = ResourceTypes(service=True, file_system=True, object=True)
    made: str = generate_account_sas(
        lake.account, lake.key, kinds, AccountSasPermissions(**allowed), expiry=ends, start=starts
    )
    return made


@pytest.mark.integration
async def test_what_is_wrong_with_a_signature_is_told(filesystem: FileSystem) -> None:
    """Expired, not valid yet, altered, and without a permission that is needed: four sentences."""
    lake, now, hour = filesystem.lake, datetime.now(UTC), timedelta(hours=1)
    cases = {
        sas(lake, now - hour, read=True, list=True): "expired at",
        sas(lake, now + 2 * hour, now + hour, read=True, list=True): "not valid before",
        sas(lake, now + hour, read=True, list=True).replace("sp=rl", "sp=rwl"): "access is denied",
        sas(lake, now + hour, read=True): "permission is missing",
    }
    for signature, cause in cases.items():
        told = await sentence(source_at(account(lake.blob_url, sas=signature), filesystem.name))
        assert cause in told


@pytest.mark.integration
async def test_what_one_file_does_not_allow_concerns_that_file(filesystem: FileSystem) -> None:
    """A SAS that may list but not write refuses one deed on one file: BadPayload, and the source goes on."""
    lake, ends = filesystem.lake, datetime.now(UTC) + timedelta(hours=1)
    source = source_at(account(lake.blob_url, sas=sas(lake, ends, read=True, list=True)), filesystem.name)
    etag = await filesystem.put("one")
    await source.open()
    with pytest.raises(BadPayload, match="permission is missing") as caught:
        await source.tag("one", etag, {"a": "b"})
    assert caught.value.position == "one"
    assert await source.read("one", 0, 1) == b"x"
    await source.close()


async def test_nothing_answers() -> None:
    """An endpoint that is down is named with host and port."""
    port = free_port()
    told = await sentence(source_at(account(f"http://127.0.0.1:{port}/acct")))
    assert f"nothing answers at 127.0.0.1:{port}" in told


async def test_an_unknown_account() -> None:
    """A host that the DNS does not know is named: the account's name is probably wrong."""
    told = await sentence(source_at(account("https://nobody.dfs.tidegate.invalid")))
    assert "there is no host nobody.dfs.tidegate.invalid" in told


async def test_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the default chain finds no credentials, the sentence says that signing in failed."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    where = read_account(AzureOptions(account_url="https://acct.dfs.core.windows.net"), None, {})
    told = await sentence(source_at(where))
    assert "signing in failed" in told


# -- what no emulator produces ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "code", "headers", "wait"),
    [
        (503, "ServerBusy", {"Retry-After": "7"}, 7.0),
        (429, "TooManyRequests", {}, WAIT),
        (503, "ServerBusy", {"x-ms-retry-after-ms": "2500"}, 2.5),
        (503, "", {"Retry-After": "0"}, 1.0),
        (503, "ServerBusy", {"Retry-After": "999999999999"}, LONGEST),
        (503, "ServerBusy", {"Retry-After": "soon"}, WAIT),
        (500, "ServerBusy", {}, WAIT),
        (
            503,
            "ServerBusy",
            {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            30.0,
        ),
    ],
)
async def test_throttling_is_waited_out(
    fake: FakeAzure, sink: Sink, source: AdlsSource, status: int, code: str, headers: Mapping[str, str], wait: float
) -> None:
    """Throttling says how long to wait, after one request: the SDK does not go on asking on its own."""
    fake.answers = [refusal(status, code, headers=headers)]
    with pytest.raises(BackOff) as caught:
        await source.open()
    assert caught.value.wait == wait
    assert "slow down" in str(caught.value)
    assert len(sink.requests) == 1


async def test_a_throttled_source_goes_on_where_it_was(fake: FakeAzure, source: AdlsSource) -> None:
    """Throttling in the midst of work leaves the connection as it is."""
    await source.open()
    fake.answers = [refusal(503, "ServerBusy"), refusal(503, "ServerBusy")]
    with pytest.raises(BackOff):
        await source.page("", None)
    with pytest.raises(BackOff):
        await source.head("one")
    assert (await source.page("", None)).next is None
    await source.close()


async def test_a_page_has_five_thousand_entries(sink: Sink, source: AdlsSource) -> None:
    """Pages are as large as the service allows, and ask for one folder."""
    await source.open()
    await source.page("events/raw/", None)
    asked = sink.requests[-1].query
    assert (asked["maxResults"], asked["directory"], asked["recursive"]) == ("5000", "events/raw", "true")
    await source.close()


async def test_only_the_folder_that_is_watched_is_asked_for(sink: Sink) -> None:
    """Who may list one folder only can open the source: nothing above it is asked for."""
    source = AdlsSource(AdlsClient(account(f"{sink.url}/acct"), "raw", probe="events/raw"), VirtualClock())
    await source.open()
    await source.close()
    assert [request.query["directory"] for request in sink.requests] == ["events/raw"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AuthorizationFailure", "network rules"),
        (403, "AuthorizationPermissionMismatch", "grant it"),
        (403, "KeyBasedAuthenticationNotPermitted", "identity"),
        (403, "AccountIsDisabled", "disabled"),
        (403, "SomethingNew", "access is denied (SomethingNew): No."),
        (403, "", "access is denied (403)"),
        (401, "InvalidAuthenticationInfo", "token"),
        (404, "FilesystemNotFound", "no such file system"),
        (409, "FilesystemBeingDeleted", "being deleted"),
        (400, "EndpointUnsupportedAccountFeatures", "does not offer Data Lake"),
        (400, "Strange", "Azure answered 400 (Strange): No."),
        (500, "InternalError", "trouble of its own (InternalError)"),
        (502, "", "trouble of its own (502)"),
    ],
)
async def test_refusals_are_named(fake: FakeAzure, source: AdlsSource, status: int, code: str, words: str) -> None:
    """Each refusal says its cause, and the same source opens as soon as it is over."""
    fake.answers = [refusal(status, code)]
    assert words in await sentence(source)
    await source.open()
    await source.close()


@pytest.mark.parametrize(("minutes", "way"), [(120, "behind"), (-120, "ahead")])
async def test_a_wrong_clock_is_told(fake: FakeAzure, source: AdlsSource, minutes: int, way: str) -> None:
    """A refused signature with a server's time far from ours is about this machine's clock, not about the key."""
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    fake.answers = [refusal(403, "AuthenticationFailed", headers={"Date": date})]
    assert f"this machine's clock is 120 minutes {way} of Azure's" in await sentence(source)


async def test_a_signature_that_does_not_match_is_told(fake: FakeAzure, sink: Sink) -> None:
    """A shared access signature that was altered, or whose key is gone, is named as the cause."""
    source = source_at(account(f"{sink.url}/acct", sas="sv=2024-11-04&se=2999-01-01T00%3A00%3A00Z&sp=rl&sig=abc"))
    fake.answers = [refusal(403, "AuthenticationFailed")]
    assert "the shared access signature is not accepted" in await sentence(source)


async def test_what_azure_says_of_the_time_is_told(fake: FakeAzure, source: AdlsSource) -> None:
    """The service's own words about an old date count where the times agree."""
    body = "Server failed to authenticate the request. Request date header too old: 'Wed, 21 Oct 2015 07:28:00 GMT'"
    fake.answers = [refusal(403, "AuthenticationFailed", body)]
    assert "clock" in await sentence(source)


@pytest.mark.parametrize(
    "body",
    [
        "<html>proxy</html>",
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "{}",
        '{"paths": null}',
        '{"paths": 5}',
        '{"paths": [5]}',
        '{"paths": [{}]}',
        '{"paths": [{"name": "a", "contentLength": "1", "lastModified": "yesterday", "etag": "0x1"}]}',
        '{"paths": [{"name": "a", "contentLength": "x", "lastModified": "Wed, 1 Oct 2026 07:28:00 GMT", "etag": "1"}]}',
        '{"paths": [{"name": "a", "contentLength": "1", "lastModified": "Wed, 21 Oct 2026 07:28:00 GMT"}]}',
    ],
)
async def test_answers_without_sense_are_no_empty_listing(fake: FakeAzure, source: AdlsSource, body: str) -> None:
    """What is no page of a listing is an error, never a listing in which files are missing."""
    await source.open()
    fake.answers = [web.Response(text=body, content_type="application/json")]
    with pytest.raises(NotConnected, match=r"makes no sense|is not Azure's"):
        await source.page("", None)
    await source.close()


async def test_a_listing_that_never_moves_ends(fake: FakeAzure, source: AdlsSource) -> None:
    """A token that continues to itself would be a scan without end."""
    await source.open()
    answer: dict[str, Any] = {"headers": {"x-ms-continuation": "again"}, "content_type": "application/json"}
    fake.answers = [web.Response(text='{"paths": []}', **answer) for _ in range(2)]
    page = await source.page("", None)
    with pytest.raises(NotConnected, match="goes on where it was"):
        await source.page("", page.next)
    await source.close()


async def test_a_broken_connection(fake: FakeAzure, source: AdlsSource) -> None:
    """A connection that ends in the midst of an answer is told as that."""

    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"paths"')
        assert request.transport is not None
        request.transport.close()
        return answer

    await source.open()
    fake.answers = [cut]
    with pytest.raises(NotConnected, match="broke off"):
        await source.page("", None)
    assert (await source.page("", None)).next is None
    await source.close()


async def test_a_file_that_is_denied_concerns_all_when_listing_is_denied_too(
    fake: FakeAzure, source: AdlsSource
) -> None:
    """A HEAD that is denied tells nothing by itself: the listing is asked, and its answer is the cause."""
    await source.open()
    denied = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    fake.answers = [web.Response(status=403, headers=denied)]
    with pytest.raises(BadPayload, match="permission is missing") as caught:
        await source.head("one")
    assert caught.value.position == "one"
    fake.answers = [web.Response(status=403, headers=denied), refusal(403, "AuthorizationFailure")]
    with pytest.raises(NotConnected, match="network rules"):
        await source.head("one")
    await source.close()


async def test_an_archived_file_concerns_that_file(fake: FakeAzure, source: AdlsSource) -> None:
    """Content that is offline cannot be read; the others can."""
    await source.open()
    fake.answers = [refusal(409, "BlobArchived", "This operation is not permitted on an archived blob.")]
    with pytest.raises(BadPayload, match="BlobArchived"):
        await source.read("one", 0, 10)
    await source.close()


async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """A server with a certificate of its own is told as that, not as a network problem."""
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        told = await sentence(source_at(account(f"https://127.0.0.1:{runner.addresses[0][1]}/acct")))
    finally:
        await runner.cleanup()
    assert "certificate is not trusted" in told


async def test_queues_are_told_of_alike(fake: FakeAzure, sink: Sink) -> None:
    """The same sentences serve a queue's client."""
    where = read_account(
        AzureOptions.model_validate(
            {"account_url": f"{sink.url}/acct", "queue_url": f"{sink.url}/acct", "account_key": KEY}
        ),
        None,
        {},
    )
    fake.answers = [refusal(404, "QueueNotFound")]
    async with where.queue("events") as queue:
        with pytest.raises(NotConnected, match="queue events: there is no such queue"), telling(where, "queue events"):
            await queue.get_queue_properties()
