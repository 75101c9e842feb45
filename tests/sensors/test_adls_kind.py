"""The options of `kind: adls`, and what becomes of an account's name, URL, key and connection."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.kind import SensorContext
from sensors.kinds.adls import KIND, AdlsOptions
from sensors.sensor import PushSensor, Sensor
from sensors.testing import VirtualClock, check_sensor
from tests.support.azure import ACCOUNT, KEY
from tests.support.lake import FileSystem

LEAST: dict[str, Any] = {"filesystem": "raw", "start": "now"}


def options(**more: Any) -> AdlsOptions:
    return AdlsOptions.model_validate({**LEAST, **more})


def account(**given: Any) -> AzureAccount:
    return read_account(AzureOptions.model_validate(given), None, {})


def problem(connections: dict[str, Any] | None = None, connection: str | None = None, **given: Any) -> str:
    """Return the sentence with which an account is refused; it shows no secret."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_account(AzureOptions.model_validate(given), connection, connections or {})
    told = str(caught.value)
    assert "s3cret" not in told
    assert KEY not in told
    return told


def test_path_is_the_prefix() -> None:
    """`path` and `prefix` mean the same, without a slash at the beginning; both at once only when they agree."""
    assert options(path="/events/").prefix == "events/"
    assert options(prefix="events/").prefix == "events/"
    assert options(prefix="/e").prefix == "e"
    assert options().prefix == ""
    assert AdlsOptions.model_validate({**options(path="events/").model_dump(), "start": "now"}).prefix == "events/"
    with pytest.raises(ValidationError, match="write one of them"):
        options(path="events/", prefix="other/")


@pytest.mark.parametrize("name", ["Raw", "a", "a--b", "-ab", "ab-", "a_b", "x" * 64, "../x", ""])
def test_names_that_azure_does_not_allow(name: str) -> None:
    """A file system or queue that cannot exist is refused when the configuration is read."""
    with pytest.raises(ValidationError, match="file system's name"):
        options(filesystem=name)
    with pytest.raises(ValidationError, match="queue's name"):
        options(notifications={"queue": name})


def test_the_form_of_a_configuration() -> None:
    """The options as the documentation writes them are taken, unknown ones are refused, secrets are hidden."""
    made = options(connection="abs", path="events/", every="15m", notifications={"queue": "landing-events"})
    assert made.notifications is not None
    assert made.notifications.emit == "file"
    assert options(filesystem="$root").filesystem == "$root"
    shown = repr(options(account_url="https://a.dfs.core.windows.net", account_key="s3cret"))
    assert "s3cret" not in shown
    cases: list[dict[str, Any]] = [
        {"no": 1},
        {"notifications": {"queue": "abc", "no": 1}},
        {"notifications": {}},
        {"path": 5},
    ]
    for wrong in cases:
        with pytest.raises(ValidationError):
            options(**wrong)


def built(connections: dict[str, Any] | None = None, **more: Any) -> Sensor | PushSensor:
    context = SensorContext("lake", "tidegate", VirtualClock(), Path(), connections or {})
    return KIND.build(options(**more), context)


def test_building_finds_what_makes_no_sense() -> None:
    """Without a connection to anything, building tells of an account that is missing or queues that are nowhere."""
    own: dict[str, Any] = {"account_url": "https://lake.acme.example"}
    other = {"q": {"kind": "azure", "account_url": "https://q.queue.core.windows.net"}}
    built(**own)
    built({"abs": {"kind": "azure", "account_url": "https://a.dfs.core.windows.net"}}, connection="abs")
    built(**own, connections=other, notifications={"queue": "events", "connection": "q", "emit": "folder"})
    with pytest.raises(ValueError, match="which account"):
        built()
    with pytest.raises(ValueError, match="queue_url"):
        built(**own, notifications={"queue": "events"})
    with pytest.raises(ValueError, match="there is no connection `q`"):
        built(**own, notifications={"queue": "events", "connection": "q"})


@pytest.mark.integration
async def test_the_contract_of_a_kind(filesystem: FileSystem, tmp_path: Path) -> None:
    """Files that are there and files that come are events, once each, also after a restart."""
    await filesystem.put("events/old=1/a.csv", b"12")

    async def drop() -> None:
        await filesystem.put("events/day=2/b.csv", b"345")
        await filesystem.put("elsewhere/c.csv")

    given = {
        **filesystem.options,
        "start": "beginning",
        "every": "100ms",
        "path": "events/",
        "pattern": "events/{what}={day}/{name}.csv",
    }
    events = await check_sensor(KIND, given, base=tmp_path, stimulate=drop)
    assert {(event.subject, event.type) for event in events} == {
        ("events/old=1/a.csv", "object.created"),
        ("events/day=2/b.csv", "object.created"),
    }
    (event,) = (event for event in events if event.subject == "events/day=2/b.csv")
    etag = await filesystem.etag("events/day=2/b.csv")
    assert event.id.startswith(f"events/day=2/b.csv@{etag}+3+")
    assert event.source == f"abfss://{filesystem.name}@{ACCOUNT}.dfs.core.windows.net"
    assert dict(event.match) == {"what": "day", "day": "2", "name": "b"}


def test_the_kind_shows_what_it_emits() -> None:
    """The sample event has what events have."""
    sample = KIND.emits.sample
    assert {"id", "source", "type", "subject", "data"} <= set(sample)
    assert sample["type"] in KIND.emits.types
    assert sample["data"]["url"] == f"{sample['source']}/{sample['subject']}"


@pytest.mark.parametrize(
    ("url", "name", "service", "lake", "queue"),
    [
        (
            "https://acct.dfs.core.windows.net",
            "acct",
            "acct.dfs.core.windows.net",
            "https://acct.dfs.core.windows.net",
            "https://acct.queue.core.windows.net",
        ),
        (
            "https://acct.blob.core.windows.net/",
            "acct",
            "acct.dfs.core.windows.net",
            "https://acct.dfs.core.windows.net",
            "https://acct.queue.core.windows.net",
        ),
        (
            "https://acct.dfs.core.chinacloudapi.cn",
            "acct",
            "acct.dfs.core.chinacloudapi.cn",
            "https://acct.dfs.core.chinacloudapi.cn",
            "https://acct.queue.core.chinacloudapi.cn",
        ),
        (
            "https://acct.privatelink.dfs.core.windows.net",
            "acct",
            "acct.dfs.core.windows.net",
            "https://acct.privatelink.dfs.core.windows.net",
            "https://acct.privatelink.queue.core.windows.net",
        ),
        ("https://lake.acme.example", "", "lake.acme.example", "https://lake.acme.example", None),
    ],
)
def test_an_account_is_told_from_its_url(url: str, name: str, service: str, lake: str, queue: str | None) -> None:
    """Name, the service for lineage, and the queues' URL follow from the account's URL."""
    made = account(account_url=url)
    assert (made.name, made.service, made.lake_url, made.queue_url) == (name, service, lake, queue)
    assert AdlsClient(made, "raw").place == f"abfss://raw@{service}"


def test_an_emulator_is_told_from_its_path() -> None:
    """Of an address the account is the path's first part, and lineage names it as a real one."""
    made = account(account_url=f"http://127.0.0.1:10000/{ACCOUNT}", account_key=KEY)
    assert (made.name, made.service) == (ACCOUNT, f"{ACCOUNT}.dfs.core.windows.net")
    assert made.queue_url is None
    local = account(connection_string="UseDevelopmentStorage=true;")
    assert (local.name, local.lake_url) == (ACCOUNT, f"http://127.0.0.1:10000/{ACCOUNT}")
    assert local.queue_url == f"http://127.0.0.1:10001/{ACCOUNT}"


def test_connection_strings() -> None:
    """A connection string names account, endpoints and key or signature, in any order and case of its names."""
    made = account(connection_string=f"AccountName=acct;AccountKey={KEY};EndpointSuffix=core.windows.net")
    assert (made.name, made.key, made.lake_url) == ("acct", KEY, "https://acct.dfs.core.windows.net")
    made = account(
        connection_string="blobendpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D"
    )
    assert (made.name, made.sas, made.key) == ("a", "sv=1&sig=x%3D", None)
    assert made.queue_url == "https://a.queue.core.windows.net"
    own = f"AccountName=acct;AccountKey={KEY};BlobEndpoint=https://lake.acme.example"
    assert account(connection_string=own).name == "acct"
    assert KEY not in repr(account(connection_string=own))


def test_a_connection_is_used_by_its_name() -> None:
    """An entry of `connections` gives the account, with its secrets already filled in."""
    entry = {"kind": "azure", "account_url": "https://acct.dfs.core.windows.net", "sas": "?sv=1&sig=abc"}
    made = read_account(options(connection="abs"), "abs", {"abs": entry})
    assert (made.name, made.sas) == ("acct", "sv=1&sig=abc")


def test_what_makes_no_account_is_refused() -> None:
    """Each mistake has a sentence that says what would be right, and none shows a secret."""
    url: dict[str, Any] = {"account_url": "https://a.dfs.core.windows.net"}
    assert "write `connection` or `account_url`" in problem()
    assert "`account_url` is missing" in problem(account_key=KEY)
    assert "write one or the other" in problem(**url, account_key=KEY, sas="sig=1")
    assert "it is instead" in problem(**url, connection_string="AccountName=a;AccountKey=s3cret")
    assert "is not base64" in problem(**url, account_key="s3cret!")
    assert "no `sig=`" in problem(**url, sas="s3cret")
    assert "put it into `sas`" in problem(account_url="https://a.dfs.core.windows.net?sig=s3cret")
    assert "is no URL" in problem(account_url="a.dfs.core.windows.net")
    assert "is no URL" in problem(account_url="https://me:s3cret@a.dfs.core.windows.net")
    assert "is no URL" in problem(account_url="https://[a.dfs.core.windows.net")
    assert "is no URL" in problem(account_url="https://a.dfs.core.windows.net:port")
    assert "has a path" in problem(account_url="https://a.dfs.core.windows.net/raw")
    assert "names no account" in problem(account_url="http://127.0.0.1:10000", account_key=KEY)
    assert "must begin with https://" in problem(account_url="http://a.dfs.core.windows.net")
    assert "use `connection_string`" in problem(account_url="https://lake.acme.example", account_key=KEY)
    assert "copy it from the portal" in problem(connection_string="AccountKey=s3cret")
    assert "neither AccountKey nor" in problem(connection_string="AccountName=acct")
    assert "copy it from the portal" in problem(connection_string=";;s3cret")


def test_what_makes_no_connection_is_refused() -> None:
    """A connection that is missing, of another kind, or wrong is named."""
    azure = {"kind": "azure", "account_url": "https://a.dfs.core.windows.net"}
    assert "there is no connection `abs`; add it to `connections` (there: x)" in problem({"x": azure}, "abs")
    assert "kind 'aws'" in problem({"abs": {"kind": "aws"}}, "abs")
    assert "`acount_key`" in problem({"abs": {**azure, "acount_key": "s3cret"}}, "abs")
    assert "not base64" in problem({"abs": {**azure, "account_key": "s3cret!"}}, "abs")
    assert "stands beside `sas`" in problem({"abs": azure}, "abs", sas=SecretStr("sig=s3cret"))
