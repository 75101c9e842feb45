"""The ADLS source against Azurite behind our gateway, with the official SDKs on both sides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.filedatalake import (
    AccountSasPermissions,
    FileSystemSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_file_system_sas,
)

from sensors.adapters.adls_client import AdlsClient
from sensors.adapters.adls_source import AdlsSource
from sensors.adapters.adls_walk import FEW
from sensors.adapters.azure_account import AzureAccount, AzureOptions, read_account
from sensors.adapters.objects import Listed
from sensors.errors import BadPayload, NotConnected
from sensors.testing import VirtualClock
from tests.support.azure import Azurite
from tests.support.lake import FileSystem

pytestmark = pytest.mark.integration

ODD = (
    "a b/c d.csv",
    "plus+and&=.csv",
    "100%.csv",
    "enc%20oded%2Fslash.csv",
    "what?now#then.csv",
    "ünï/çödé/日本.csv",
    "emoji-😀.csv",
    "quote'\"`.csv",
    "semi;colon,comma.csv",
    "tilde~(paren)[bracket]{brace}.csv",
    ".hidden/..two.csv",
    "trailing .csv",
    "x" * 200 + "/" + "y" * 200 + ".csv",
)
NOWHERE = ("a/../secret", "./secret", "a//b", "/secret", "secret/", "a\\b", "", "\ud800")


def account_of(lake: Azurite) -> AzureAccount:
    options = AzureOptions.model_validate({"connection_string": lake.connection_string})
    return read_account(options, None, {})


def source_of(
    filesystem: FileSystem, account: AzureAccount | None = None, *, page_size: int = 5000, name: str = ""
) -> AdlsSource:
    account = account or account_of(filesystem.lake)
    return AdlsSource(AdlsClient(account, name or filesystem.name), VirtualClock(), page_size=page_size)


async def everything(source: AdlsSource, prefix: str = "") -> tuple[list[Listed], int]:
    """List all pages; return the objects, and how many pages there were."""
    found: list[Listed] = []
    token, pages = None, 0
    while True:
        page = await source.page(prefix, token)
        found += page.objects
        token, pages = page.next, pages + 1
        if token is None:
            return found, pages


def keys(found: Sequence[Listed]) -> list[str]:
    return sorted(item.key for item in found)


@pytest.fixture
async def source(filesystem: FileSystem) -> AsyncIterator[AdlsSource]:
    """An open source on an empty file system."""
    made = source_of(filesystem)
    await made.open()
    yield made
    await made.close()


async def test_a_listing_and_a_head_see_the_same(filesystem: FileSystem, source: AdlsSource) -> None:
    """Key, size, etag (without quotes) and whole second are the same by both routes, and folders are no objects."""
    etag = await filesystem.put("a/b/one.csv", b"12345")
    await filesystem.put("top")
    await filesystem.make_folder("a/empty")
    listed = {item.key: item for item in (await source.page("", None)).objects}
    assert sorted(listed) == ["a/b/one.csv", "top"]
    for key, item in listed.items():
        assert await source.head(key) == item
    one = listed["a/b/one.csv"]
    assert (one.size, one.etag) == (5, etag)
    assert '"' not in etag
    assert one.modified % 1_000_000 == 0
    assert abs(one.modified / 1e6 - datetime.now(UTC).timestamp()) < 60
    assert one.token == f"{etag}+5+{one.modified // 1_000_000}"


async def test_an_overwrite_changes_the_token(filesystem: FileSystem, source: AdlsSource) -> None:
    """The same bytes written again are another version."""
    await filesystem.put("one")
    before = await source.head("one")
    await filesystem.put("one")
    after = await source.head("one")
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


async def test_a_listing_goes_on_from_page_to_page(filesystem: FileSystem) -> None:
    """Small pages bring every file once, whatever folders lie between; the tokens survive another source."""
    names = [f"f{n % 3}/g{n % 2}/{n}.csv" for n in range(20)]
    for name in names:
        await filesystem.put(name)
    found: list[Listed] = []
    token = None
    for _ in range(100):
        source = source_of(filesystem, page_size=4)
        await source.open()
        page = await source.page("", token)
        await source.close()
        assert len(page.objects) <= 4
        found += page.objects
        token = page.next
        if token is None:
            break
    assert keys(found) == sorted(names)


async def test_only_what_is_below_the_prefix_is_listed(filesystem: FileSystem, source: AdlsSource) -> None:
    """A prefix that ends a folder lists that folder alone; a folder that is not there is empty."""
    for name in ("events/a", "events/b/c", "events2/d", "top"):
        await filesystem.put(name)
    assert keys((await everything(source, "events/"))[0]) == ["events/a", "events/b/c"]
    assert keys((await everything(source, "events/b/"))[0]) == ["events/b/c"]
    assert await everything(source, "nothing/here/") == ([], 1)
    assert await everything(source, "nothing/her") == ([], 1)
    assert await source.shards(["events/", "top"]) == ["events/", "top"]


async def test_a_prefix_may_end_within_a_name(filesystem: FileSystem, source: AdlsSource) -> None:
    """Folders and files that begin so are listed, and the folders beside them are not asked for."""
    for name in ("e/dt=01/a", "e/dt=01/x/b", "e/dt=02/c", "e/dt=0.csv", "e/other/d", "dt=0"):
        await filesystem.put(name)
    found, pages = await everything(source, "e/dt=0")
    assert keys(found) == ["e/dt=0.csv", "e/dt=01/a", "e/dt=01/x/b", "e/dt=02/c"]
    assert pages == 3  # the level and two folders
    assert keys((await everything(source, "dt"))[0]) == ["dt=0"]


async def test_many_folders_are_listed_as_one(filesystem: FileSystem, source: AdlsSource) -> None:
    """Where many folders fit a prefix the whole level is listed, in few calls, and each file comes once."""
    names = [f"e/dt={n:03}/a" for n in range(FEW + 1)]
    for name in [*names, "e/other", "e/dt=file"]:
        await filesystem.put(name)
    found, pages = await everything(source, "e/dt=")
    assert keys(found) == sorted([*names, "e/dt=file"])
    assert pages == 2


async def test_a_listing_may_begin_after_a_key(filesystem: FileSystem, source: AdlsSource) -> None:
    """Keys up to `after` are left out."""
    for name in ("a", "b", "c/d"):
        await filesystem.put(name)
    assert keys((await source.page("", None, "a")).objects) == ["b", "c/d"]


async def test_a_token_of_another_kind_is_refused(source: AdlsSource) -> None:
    """What is no token ends the listing with a sentence instead of an empty page."""
    for token in ("", "x", "[]", "{}", "null", '["a",true,1,null,null,[]]', '["a",true,null,null,null,[1]]'):
        with pytest.raises(NotConnected, match="begins anew"):
            await source.page("", token)
    with pytest.raises(NotConnected, match="400"):
        await source.page("", '["",true,"not-a-continuation",null,null,[]]')


@pytest.mark.parametrize("key", ODD)
async def test_odd_names_stay_what_they_are(filesystem: FileSystem, source: AdlsSource, key: str) -> None:
    """Each call means exactly this file, whatever characters its name has."""
    await filesystem.put(key, b"odd")
    (listed,) = (await source.page("", None)).objects
    assert listed.key == key
    assert await source.head(key) == listed
    assert await source.read(key, 0, 10) == b"odd"
    await source.tag(key, listed.etag, {"seen": "yes"})
    assert await filesystem.metadata(key) == {"seen": "yes"}
    etag = await filesystem.etag(key)
    await source.copy(key, etag, f"copied/{key}")
    assert await filesystem.get(f"copied/{key}") == b"odd"
    await source.move(key, etag, f"moved/{key}")
    assert await filesystem.paths() == sorted([f"copied/{key}", f"moved/{key}"])
    await source.delete(f"moved/{key}", etag)
    assert await filesystem.paths() == [f"copied/{key}"]
    assert source.url(key) == f"abfss://{filesystem.name}@devstoreaccount1.dfs.core.windows.net/{key}"


async def test_no_path_leads_out_of_the_file_system(filesystem: FileSystem, source: AdlsSource) -> None:
    """A name of which another path would be made on the way is no file, and may not be a target."""
    await filesystem.put("secret")
    for key in (
        f"../{filesystem.name}/secret",
        "a/../secret",
        "./secret",
        "a//b",
        "/secret",
        "secret/",
        "a\\b",
        "",
        "\ud800",
    ):
        assert await source.head(key) is None
        with pytest.raises(BadPayload):
            await source.read(key, 0, 1)
        with pytest.raises(BadPayload):
            await source.move("secret", await filesystem.etag("secret"), key)
        with pytest.raises(BadPayload):
            await source.delete(key, "0x1")
    assert await filesystem.paths() == ["secret"]
    for key in ("n\0ul", "x" * 3000, "new\nline"):
        assert await source.head(key) is None


async def test_ranges(filesystem: FileSystem, source: AdlsSource) -> None:
    """A read gives what lies in the range, from the end too, and nothing behind the end."""
    await filesystem.put("one", b"0123456789")
    await filesystem.put("none", b"")
    assert await source.read("one", 0, 4) == b"0123"
    assert await source.read("one", 3, 4) == b"3456"
    assert await source.read("one", 8, 100) == b"89"
    assert await source.read("one", -3, 100) == b"789"
    assert await source.read("one", -3, 2) == b"78"
    assert await source.read("one", -100, 100) == b"0123456789"
    assert await source.read("one", 10, 1) == b""
    assert await source.read("one", 5, 0) == b""
    assert await source.read("none", 0, 10) == b""
    assert await source.read("none", -10, 10) == b""
    for start in (0, -5):
        with pytest.raises(BadPayload, match="not there any more") as caught:
            await source.read("gone", start, 5)
        assert caught.value.position == "gone"


async def test_details_are_told_on_request(filesystem: FileSystem, source: AdlsSource) -> None:
    """A head tells content type and metadata when they are asked for; a folder is no object."""
    await filesystem.put("f/one", metadata={"Owner": "me", "n_2": "Zürich".encode().hex()}, content_type="text/csv")
    plain = await source.head("f/one")
    full = await source.head("f/one", details=True)
    assert plain is not None
    assert plain.content_type is None
    assert full is not None
    assert full.content_type == "text/csv"
    assert dict(full.metadata) == {"Owner": "me", "n_2": "Zürich".encode().hex()}
    assert full.token == plain.token
    assert await source.head("f") is None
    assert await source.head("g") is None


async def test_copy(filesystem: FileSystem, source: AdlsSource) -> None:
    """A copy is made inside the service, only of the version that was meant; twice is harmless."""
    etag = await filesystem.put("one", b"bytes", metadata={"k": "v"})
    await source.copy("one", "0x0", "new/folder/two")
    await source.copy("gone", etag, "new/folder/two")
    assert await filesystem.paths() == ["one"]
    for _ in range(2):
        await source.copy("one", etag, "new/folder/two")
        assert await filesystem.paths() == ["new/folder/two", "one"]
    assert await filesystem.get("new/folder/two") == b"bytes"
    assert await filesystem.metadata("new/folder/two") == {"k": "v"}
    assert await source.head("new/folder") is None


async def test_move(filesystem: FileSystem, source: AdlsSource) -> None:
    """A move is a rename: etag and time stay, the folder is made, another version is left alone, twice is harmless."""
    etag = await filesystem.put("in/one", b"bytes")
    before = await source.head("in/one")
    assert before is not None
    await source.move("in/one", "0x0", "done/2026/one")
    assert await filesystem.paths() == ["in/one"]
    for _ in range(2):
        await source.move("in/one", etag, "done/2026/one")
        assert await filesystem.paths() == ["done/2026/one"]
    assert await source.head("done/2026/one") == replace(before, key="done/2026/one")
    assert await filesystem.get("done/2026/one") == b"bytes"
    assert {item.key: item.etag for item in (await source.page("", None)).objects} == {"done/2026/one": etag}


async def test_what_was_moved_can_be_worked_on_by_its_kept_etag(filesystem: FileSystem, source: AdlsSource) -> None:
    """The etag that a rename kept is good for conditions: tag, copy, another move, delete."""
    etag = await filesystem.put("one")
    await source.move("one", etag, "two")
    await source.copy("two", etag, "copy")
    await source.move("two", etag, "three")
    await source.tag("three", etag, {"a": "b"})
    assert await filesystem.metadata("three") == {"a": "b"}
    tagged = await filesystem.etag("three")
    assert tagged != etag
    await source.delete("three", etag)
    assert await filesystem.paths() == ["copy", "three"]
    await source.delete("three", tagged)
    assert await filesystem.paths() == ["copy"]


async def test_delete(filesystem: FileSystem, source: AdlsSource) -> None:
    """Only the version that was meant is deleted; one that is gone is no error; a folder is never deleted."""
    etag = await filesystem.put("f/one")
    await source.delete("f/one", "0x0")
    assert await filesystem.paths() == ["f/one"]
    for _ in range(2):
        await source.delete("f/one", etag)
        assert await filesystem.paths() == []


async def test_tags_are_metadata_that_is_added(filesystem: FileSystem, source: AdlsSource) -> None:
    """Metadata is merged, names are one in any case; another version is left alone; twice changes nothing more."""
    etag = await filesystem.put("one", metadata={"Kept": "1", "State": "new"})
    await source.tag("one", "0x0", {"state": "done"})
    assert await filesystem.metadata("one") == {"Kept": "1", "State": "new"}
    await source.tag("one", etag, {"state": "done", "run": "run_1"})
    assert await filesystem.metadata("one") == {"Kept": "1", "state": "done", "run": "run_1"}
    tagged = await filesystem.etag("one")
    for known in (etag, tagged):
        await source.tag("one", known, {"state": "done", "run": "run_1"})
    assert await filesystem.etag("one") == tagged
    await source.tag("gone", etag, {"a": "b"})
    for bad in ({"1st": "x"}, {"a-b": "x"}, {"": "x"}, {"a": "ü"}, {"a": "x\r\ny: z"}):
        with pytest.raises(BadPayload, match="metadata") as caught:
            await source.tag("one", tagged, bad)
        assert caught.value.position == "one"


async def test_a_renamed_folder_is_never_seen_half(filesystem: FileSystem, source: AdlsSource) -> None:
    """Listings during the rename of a folder show all of it before or all of it after, with the same etags."""
    names = [f"{n:02}" for n in range(20)]
    etags = {name: await filesystem.put(f"old/{name}") for name in names}
    renaming = asyncio.create_task(filesystem.rename("old", "new"))
    seen: set[str] = set()
    while not renaming.done() or "new" not in seen:
        page = await source.page("", None)
        folders = {item.key.partition("/")[0] for item in page.objects}
        assert len(folders) == 1
        assert {item.key.partition("/")[2]: item.etag for item in page.objects} == etags
        seen |= folders
    await renaming
    assert await source.page("old/", None) == await source.page("nothing/", None)


async def test_every_way_to_sign_in_does_everything(filesystem: FileSystem) -> None:
    """Key, account SAS and file system SAS list, read, copy, move, tag and delete alike."""
    lake, end = filesystem.lake, datetime.now(UTC) + timedelta(hours=1)
    whole = generate_account_sas(
        lake.account,
        lake.key,
        ResourceTypes(service=True, file_system=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        end,
    )
    part = generate_file_system_sas(
        lake.account,
        filesystem.name,
        lake.key,
        FileSystemSasPermissions(read=True, write=True, delete=True, list=True, create=True, add=True, move=True),
        end,
    )
    ways = [{"account_key": lake.key}, {"sas": whole}, {"sas": f"?{part}"}]
    for number, way in enumerate(ways):
        account = read_account(AzureOptions.model_validate({"account_url": lake.blob_url, **way}), None, {})
        source = source_of(filesystem, account)
        await source.open()
        etag = await filesystem.put(f"{number}", b"abc")
        assert [item.etag for item in (await source.page("", None)).objects] == [etag]
        assert await source.read(f"{number}", 1, 1) == b"b"
        await source.copy(f"{number}", etag, "copy/x")
        await source.move(f"{number}", etag, "moved/deep/x")
        await source.tag("moved/deep/x", etag, {"a": "b"})
        for name in ("copy/x", "moved/deep/x"):
            await source.delete(name, await filesystem.etag(name))
        assert await filesystem.paths() == []
        await source.close()


async def test_a_source_opens_again_after_it_was_closed(filesystem: FileSystem) -> None:
    """Close is harmless at any time, and open connects anew; in between nothing is asked."""
    source = source_of(filesystem)
    await source.close()
    for _ in range(2):
        await source.open()
        assert await source.head("none") is None
        await source.close()
        await source.close()
        with pytest.raises(NotConnected, match="not connected"):
            await source.page("", None)
        with pytest.raises(NotConnected, match="not connected"):
            await source.head("one")
