"""The S3 source on real servers: every promise of `ObjectSource`, with the SDK on top of real HTTP."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_options import AwsAccess, access_of
from sensors.adapters.objects import SECOND, Listed
from sensors.adapters.s3_source import S3Source
from sensors.clock import SystemClock
from sensors.errors import BadPayload
from sensors.kind import SensorContext
from tests.support.aws import Aws, Bucket

pytestmark = pytest.mark.integration

MIB = 1 << 20
ODD = [
    "a b+c.txt",
    "å/ü?&=%41 #",
    "tab\tnew\nline",
    "x\x01y",
    "<&>\"'",
    "a%2Fb",
    "日本/語.csv",
    "😀.bin",
    "plus+and space",
    "q?versionId=1",
    "semi;colon,comma",
    "~tilde|pipe",
]
MakeSource = Callable[..., Any]


@pytest.fixture
async def open_source() -> AsyncIterator[MakeSource]:
    """Open sources on buckets; they are closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def make(bucket: Bucket, **more: Any) -> S3Source:
            source = S3Source(client_of(bucket.aws, bucket.name), bucket.name, **more)
            await source.open()
            stack.push_async_callback(source.close)
            return source

        yield make


def client_of(aws: Aws, bucket: str) -> AwsClient:
    context = SensorContext("s", "kit", SystemClock(), Path())
    return AwsClient(access_of(AwsAccess.model_validate(aws.options), None, context), "s3", f"s3://{bucket}")


async def everything(source: S3Source, prefix: str = "", after: str = "") -> list[Listed]:
    """List all pages."""
    found: list[Listed] = []
    token: str | None = None
    while True:
        page = await source.page(prefix, token, after)
        found += page.objects
        token = page.next
        if token is None:
            return found


async def test_any_key_comes_out_right(bucket: Bucket, open_source: MakeSource) -> None:
    """Whatever characters a key has, listing, HEAD and reading agree on it."""
    odd = [*ODD, "back\\slash"] if bucket.aws.name == "ministack" else ODD  # seaweedfs makes a slash of it
    for key in odd:
        bucket.put(key, key.encode())
    source = await open_source(bucket)
    listed = {item.key: item for item in await everything(source)}
    assert sorted(listed) == sorted(odd)
    for key in odd:
        assert await source.head(key) == listed[key]
        assert await source.read(key, 0, 100) == key.encode()
        assert source.url(key) == f"s3://{bucket.name}/{key}"


async def test_a_listing_and_a_head_see_the_same_object(bucket: Bucket, open_source: MakeSource) -> None:
    """Etag, size and whole seconds of modification are equal by both routes, for multipart uploads too."""
    one = bucket.put("one", b"12345")
    parts = bucket.put_in_parts("parts", [b"a" * 5 * MIB, b"b"])
    source = await open_source(bucket)
    listed = {item.key: item for item in await everything(source)}
    assert (listed["one"].etag, listed["one"].size) == (one, 5)
    assert (listed["parts"].etag, listed["parts"].size) == (parts, 5 * MIB + 1)
    assert parts.endswith("-2")
    for key, item in listed.items():
        assert item.modified % SECOND == 0
        assert item.version == ""
        assert await source.head(key) == item
        assert item.token == f"{item.etag}+{item.size}+{item.modified // SECOND}"


async def test_pages_and_a_start_after_a_key(bucket: Bucket, open_source: MakeSource) -> None:
    """A listing of several pages is complete and in key order, and can begin after any key."""
    keys = [f"p/{n:03d}" for n in range(103)]
    for key in (*keys, "o", "q/other"):
        bucket.put(key)
    source = await open_source(bucket, page=10)
    first = await source.page("p/", None)
    assert len(first.objects) == 10
    assert first.next is not None
    assert [item.key for item in await everything(source, "p/")] == keys
    assert [item.key for item in await everything(source, "p/", after="p/079")] == keys[80:]
    assert [item.key for item in await everything(source, "p/", after="p/050x")] == keys[51:]
    assert source.ordered


async def test_placeholders_of_folders_are_left_out_by_both_routes(bucket: Bucket, open_source: MakeSource) -> None:
    """An empty object whose key ends with a slash is no object."""
    bucket.put("folder/", b"")
    bucket.put("folder/real", b"")
    source = await open_source(bucket)
    assert [item.key for item in await everything(source)] == ["folder/real"]
    assert await source.head("folder/") is None


async def test_what_is_not_there_is_none(bucket: Bucket, open_source: MakeSource) -> None:
    """A HEAD of a missing key, of no key, and of a text that no key can be, finds nothing."""
    source = await open_source(bucket)
    assert await source.head("nothing") is None
    assert await source.head("") is None
    assert await source.head("lone \ud800 surrogate") is None
    assert await everything(source, "no/such/prefix") == []


async def test_details_on_request(bucket: Bucket, open_source: MakeSource) -> None:
    """Content type, metadata and tags come with a HEAD that asks for them, and only then."""
    bucket.put("k", b"1", ContentType="text/csv", Metadata={"team": "blue"}, Tagging="a=1&b=x%20y")
    bucket.put("plain", b"1")
    source = await open_source(bucket)
    brief = await source.head("k")
    assert brief is not None
    assert (brief.content_type, dict(brief.metadata), dict(brief.tags)) == (None, {}, {})
    full = await source.head("k", details=True)
    assert full is not None
    assert full.content_type == "text/csv"
    assert full.metadata == {"team": "blue"}
    assert full.tags == {"a": "1", "b": "x y"}
    bare = await source.head("plain", details=True)
    assert bare is not None
    assert (dict(bare.metadata), dict(bare.tags)) == ({}, {})


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 4, b"0123"),
        (4, 3, b"456"),
        (8, 100, b"89"),
        (10, 5, b""),
        (1000, 5, b""),
        (-4, 4, b"6789"),
        (-4, 100, b"6789"),
        (-4, 2, b"67"),
        (-100, 100, b"0123456789"),
        (-100, 3, b"012"),
        (0, 0, b""),
        (0, 10 * MIB, b"0123456789"),
    ],
)
async def test_ranges(bucket: Bucket, open_source: MakeSource, start: int, length: int, expected: bytes) -> None:
    """A range is cut at both ends of the object and never longer than asked for."""
    bucket.put("k", b"0123456789")
    source = await open_source(bucket)
    assert await source.read("k", start, length) == expected


async def test_reading_what_is_empty_or_gone(bucket: Bucket, open_source: MakeSource) -> None:
    """An empty object has no bytes; one that is gone is a sentence about this object alone."""
    bucket.put("empty", b"")
    source = await open_source(bucket)
    assert await source.read("empty", 0, 10) == b""
    assert await source.read("empty", -8, 8) == b""
    for start in (0, -8, -80):
        with pytest.raises(BadPayload, match="is not there any more") as caught:
            await source.read("gone", start, 8)
        assert caught.value.position == "gone"


async def test_a_large_range_is_read_whole(bucket: Bucket, open_source: MakeSource) -> None:
    """Megabytes come in many pieces from the network and are put together."""
    body = bytes(range(256)) * 4 * 4096
    bucket.put("big", body)
    source = await open_source(bucket)
    assert await source.read("big", 1000, 3 * MIB) == body[1000 : 1000 + 3 * MIB]
    assert await source.read("big", -2 * MIB, 2 * MIB) == body[-2 * MIB :]


# -- after a run ------------------------------------------------------------------------------------------------------
async def test_copy_is_conditional_and_may_be_repeated(bucket: Bucket, open_source: MakeSource) -> None:
    """The object of this etag is copied with its metadata, however often; another version or none is not."""
    etag = bucket.put("in/a b+ü.csv", b"body", ContentType="text/csv", Metadata={"m": "1"})
    source = await open_source(bucket)
    for _ in range(2):
        await source.copy("in/a b+ü.csv", etag, "done/a b+ü.csv")
    assert bucket.get("done/a b+ü.csv") == b"body"
    copied = await source.head("done/a b+ü.csv", details=True)
    assert copied is not None
    assert (copied.content_type, copied.metadata) == ("text/csv", {"m": "1"})
    bucket.put("in/a b+ü.csv", b"newer")
    await source.copy("in/a b+ü.csv", etag, "done/other")
    await source.copy("in/none", etag, "done/none")
    assert sorted(bucket.keys()) == ["done/a b+ü.csv", "in/a b+ü.csv"]


async def test_a_large_object_is_copied_in_parts(bucket: Bucket, open_source: MakeSource) -> None:
    """What is too large for one call is copied in parts, with content type, metadata and tags."""
    body = b"".join(bytes([n]) * MIB for n in range(12))
    etag = bucket.put("big", body, ContentType="application/x-big", Metadata={"m": "1"}, Tagging="t=1")
    source = await open_source(bucket, copying=(MIB, 5 * MIB))
    await source.copy("big", etag, "copy")
    assert bucket.get("copy") == body
    copied = await source.head("copy", details=True)
    assert copied is not None
    assert copied.etag.endswith("-3")
    assert (copied.content_type, copied.metadata) == ("application/x-big", {"m": "1"})
    if bucket.aws.name == "seaweedfs":  # the other one forgets the tags of uploads in parts
        assert copied.tags == {"t": "1"}


async def test_delete_is_conditional_and_may_be_repeated(bucket: Bucket, open_source: MakeSource) -> None:
    """The object of this etag is deleted; a newer one stays; a missing one is no error."""
    old = bucket.put("k", b"old")
    new = bucket.put("k", b"new")
    source = await open_source(bucket)
    await source.delete("k", old)
    assert bucket.get("k") == b"new"
    for _ in range(2):
        await source.delete("k", new)
    assert bucket.keys() == []


async def test_tags_are_added_to_those_that_are_there(bucket: Bucket, open_source: MakeSource) -> None:
    """Tagging keeps other tags, is harmless when repeated, and leaves another version alone."""
    etag = bucket.put("k", b"1", Tagging="mine=1")
    source = await open_source(bucket)
    for _ in range(2):
        await source.tag("k", etag, {"state": "done", "run": "run_1"})
    assert bucket.tags("k") == {"mine": "1", "state": "done", "run": "run_1"}
    await source.tag("k", "another", {"no": "1"})
    await source.tag("none", etag, {"no": "1"})
    assert "no" not in bucket.tags("k")
    with pytest.raises(BadPayload, match="would have 13 tags, and 10 are the most"):
        await source.tag("k", etag, {f"t{n}": "" for n in range(10)})


# -- versions ---------------------------------------------------------------------------------------------------------
async def test_every_version_is_listed_once(s3_server: Aws, open_source: MakeSource) -> None:
    """With `versions` each version is one entry, a deletion is one too, and HEAD names the newest."""
    with s3_server.bucket(versions=True) as bucket:
        first = bucket.put("k", b"1")
        second = bucket.put("k", b"22")
        bucket.put("other", b"3")
        bucket.delete("k")
        source = await open_source(bucket, versions=True)
        assert not source.ordered
        found = await everything(source)
        assert len({item.version for item in found}) == 4
        assert "" not in {item.version for item in found}
        kept = {(item.key, item.etag, item.size) for item in found if not item.deleted}
        assert {("k", first, 1), ("k", second, 2)} < kept
        assert [(item.key, item.size, item.etag) for item in found if item.deleted] == [("k", 0, "")]
        other = next(item for item in found if item.key == "other")
        assert await source.head("other") == other
        assert other.token == other.version
        assert await source.head("k") is None


async def test_versions_are_paged(s3_server: Aws, open_source: MakeSource) -> None:
    """More versions than a page holds are listed completely and once, even of one key."""
    with s3_server.bucket(versions=True) as bucket:
        for n in range(25):
            bucket.put("same", str(n).encode())
        bucket.put("zebra")
        source = await open_source(bucket, versions=True, page=10)
        found = await everything(source)
        assert len(found) == len({item.version for item in found}) == 26
        assert [item.key for item in await everything(source, after="same")] == ["zebra"]


async def test_what_was_written_without_versions_is_told_apart_by_its_etag(
    s3_server: Aws, open_source: MakeSource
) -> None:
    """The version `null` is overwritten under its name, so it is none."""
    with s3_server.bucket() as bucket:
        bucket.put("k", b"1")
        bucket.aws.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Suspended"})
        source = await open_source(bucket, versions=True)
        (found,) = await everything(source)
        assert found.version == ""
        assert found.token.startswith(f"{found.etag}+1+")
        assert await source.head("k") == found


async def test_a_copy_takes_the_version_that_was_seen(s3_server: Aws, open_source: MakeSource) -> None:
    """In a bucket with versions the newest one is copied, tagged and deleted, and deleting leaves a marker."""
    with s3_server.bucket(versions=True) as bucket:
        etag = bucket.put("k", b"1")
        source = await open_source(bucket)
        await source.copy("k", etag, "copy")
        await source.tag("k", etag, {"a": "1"})
        assert bucket.get("copy") == b"1"
        assert bucket.tags("k") == {"a": "1"}
        await source.delete("k", etag)
        assert bucket.keys() == ["copy"]
        assert await source.head("k") is None


# -- shards -----------------------------------------------------------------------------------------------------------
async def test_shards_cover_everything_once_and_in_order(bucket: Bucket, open_source: MakeSource) -> None:
    """The parts of a listing are disjoint, no more than asked for, and together they are the listing."""
    keys = [f"data/dt={d:02d}/{n}" for d in range(24) for n in range(3)] + ["data/readme", "data/dt", "data/x/y"]
    for key in keys:
        bucket.put(key)
    bucket.put("data/", b"")
    for count in (2, 5, 8, 100):
        source = await open_source(bucket, shards=count)
        parts = await source.shards([""])
        assert 1 <= len(parts) <= count
        assert list(parts) == sorted(parts)
        found = [item.key for part in parts for item in await everything(source, part)]
        assert sorted(found) == sorted(keys)
    source = await open_source(bucket, shards=8)
    assert len(await source.shards(["data/dt="])) > 2
    assert await source.shards(["none/"]) == ["none/"]
    assert await (await open_source(bucket)).shards(["data/"]) == ["data/"]


async def test_a_server_that_lists_folder_by_folder_is_found_out(s3_server: Aws, open_source: MakeSource) -> None:
    """`ordered` turns False with the page that shows it; the listing is complete all the same."""
    with s3_server.bucket() as bucket:
        keys = ["a b", "a/1", "a/2", "a0"]
        for key in keys:
            bucket.put(key)
        source = await open_source(bucket)
        found = [item.key for item in await everything(source)]
        assert sorted(found) == keys
        assert source.ordered == (found == keys)
        assert source.ordered == (s3_server.name == "ministack")


async def test_a_source_can_be_opened_again(bucket: Bucket, open_source: MakeSource) -> None:
    """After a close the same source connects again, as after a lost connection."""
    bucket.put("k")
    source = await open_source(bucket)
    await source.close()
    await source.close()
    await source.open()
    assert [item.key for item in await everything(source)] == ["k"]
