"""What the S3 source asks for: the requests themselves, as the SDK sends them to a server that only listens."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.aws import AwsClient
from sensors.adapters.aws_options import AwsAccess
from sensors.adapters.s3_shards import split
from sensors.adapters.s3_source import S3Source
from sensors.clock import SystemClock
from sensors.errors import NotConnected
from sensors.kind import SensorContext
from sensors.kinds.s3 import KIND, S3Options
from sensors.testing import EverythingWanted, FakeInbox
from tests.support.scripted_s3 import Answer, ScriptedS3, found, listing, running_script

DIRECTORY = "fast--use1-az4--x-s3"
SESSION = Answer(
    200,
    '<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Credentials><AccessKeyId>AKSESSION'
    "</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z"
    "</Expiration></Credentials></CreateSessionResult>",
)
ACCESS = {"region": "us-east-1", "credentials": {"access_key_id": "AK", "secret_access_key": "s"}}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with running_script() as made:
        yield made


def source_at(server: ScriptedS3, bucket: str = "landing", **more: Any) -> S3Source:
    access = AwsAccess.model_validate({"endpoint_url": server.url, **ACCESS})
    return S3Source(AwsClient(access, "s3", f"s3://{bucket}"), bucket, **more)


async def test_whoever_asks_pays_when_told_to(server: ScriptedS3) -> None:
    """With `requester_pays` every request says so, and none without."""
    for pays in (True, False):
        server.asked.clear()
        source = source_at(server, requester_pays=pays)
        await source.open()
        server.say(listing("k"), found(), Answer(206, "x", {"Content-Range": "bytes 0-0/1"}))
        await source.page("", None)
        await source.head("k")
        await source.read("k", 0, 1)
        server.say(found(), Answer(204))
        await source.delete("k", "e")
        await source.close()
        assert len(server.asked) == 6
        assert {request.headers.get("x-amz-request-payer") for request in server.asked} == {
            "requester" if pays else None
        }


async def test_a_directory_bucket_lists_whole_folders_in_no_order(server: ScriptedS3) -> None:
    """Its prefixes end with a slash and it starts nowhere, so the rest is left out here; it is never split."""
    server.say(SESSION)
    source = source_at(server, DIRECTORY, shards=8)
    assert not source.ordered
    await source.open()
    server.say(listing("a/x", "a/bc", "a/b1", more="next"))
    page = await source.page("a/b", None, "a/a")
    assert [item.key for item in page.objects] == ["a/bc", "a/b1"]
    assert page.next == "next"
    last = server.asked[-1]
    assert last.query["prefix"] == "a/"
    assert "start-after" not in last.query
    assert await source.shards(["a/b"]) == ["a/b"]
    await source.close()


async def test_only_what_may_be_listed_is_listed_at_the_start(server: ScriptedS3, tmp_path: Path) -> None:
    """The first request asks below the literal part of prefix or pattern, for rights that end there."""
    for options, expected in [
        ({}, ""),
        ({"prefix": "in/"}, "in/"),
        ({"prefix": "in/dt={%Y-%m-%d}/"}, "in/dt="),
        ({"pattern": "orders/dt={day}/{name}.parquet"}, "orders/dt="),
        ({"prefix": "orders/", "pattern": "orders/dt={day}/{name}.parquet"}, "orders/dt="),
    ]:
        server.asked.clear()
        given = {"bucket": "landing", "start": "beginning", "endpoint_url": server.url, **ACCESS, **options}
        context = SensorContext("s", "kit", SystemClock(), tmp_path)
        sensor = KIND.build(S3Options.model_validate(given), context)
        inbox = FakeInbox()
        await sensor.connect({}, inbox.lookup("s"), EverythingWanted())  # type: ignore[union-attr]
        await sensor.close()  # type: ignore[union-attr]
        assert server.asked[0].query["prefix"] == expected
        assert server.asked[0].query["max-keys"] == "1"


async def test_what_is_encoded_for_xml_is_decoded_once(server: ScriptedS3) -> None:
    """Keys are asked for in URL encoding; a server that does not encode is taken at its word."""
    source = source_at(server)
    await source.open()
    server.say(listing("a%2Bb+c%20d%25", inner="<EncodingType>url</EncodingType>"), listing("a%2Bb+c"))
    assert [item.key for item in (await source.page("", None)).objects] == ["a+b c d%"]
    assert server.asked[-1].query["encoding-type"] == "url"
    assert server.asked[-1].query["max-keys"] == "1000"
    assert [item.key for item in (await source.page("", None)).objects] == ["a%2Bb+c"]
    await source.close()


async def test_disorder_is_seen_within_a_page_between_pages_and_at_a_start(server: ScriptedS3) -> None:
    """Wherever a key comes that should have come before, the listing is not ordered from then on."""
    for prepare in (
        [("", None, "", listing("b", "a"))],
        [("", None, "", listing("a", "z", more="t")), ("", "t", "", listing("b"))],
        [("", None, "m", listing("a"))],
        [("", None, "", listing("a", "a"))],
    ):
        source = source_at(server)
        await source.open()
        for prefix, token, after, answer in prepare:
            assert source.ordered
            server.say(answer)
            await source.page(prefix, token, after)
        assert not source.ordered
        await source.close()
    source = source_at(server)
    await source.open()
    server.say(listing("a", "z", more="t"), listing("b", "c"), listing("zz"), listing("~", "é", "\uffff", "😀"))
    await source.page("", None)
    await source.page("b", None)  # another shard
    await source.page("", "t")
    await source.page("", None)
    assert source.ordered
    await source.close()


async def test_a_level_that_is_too_wide_is_not_split(server: ScriptedS3) -> None:
    """A flat bucket of millions of objects is not listed in order to find out how to list it."""
    source = source_at(server, shards=4)
    await source.open()
    server.asked.clear()
    server.otherwise = lambda _: listing(*(f"k{n}" for n in range(5)), more=f"t{len(server.asked)}")
    assert await source.shards([""]) == [""]
    assert len(server.asked) == 10
    await source.close()


async def test_a_place_of_another_listing_is_refused(server: ScriptedS3) -> None:
    """Where a listing without versions stood, one with versions cannot go on."""
    source = source_at(server, versions=True)
    await source.open()
    for token in ("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=", "7", "[1]"):
        with pytest.raises(NotConnected, match="the listing cannot go on at"):
            await source.page("", token)
    await source.close()


async def test_nothing_is_asked_before_it_is_open(server: ScriptedS3) -> None:
    """A source that is not open says so."""
    with pytest.raises(NotConnected, match="s3://landing: not connected"):
        await source_at(server).page("", None)
    assert server.asked == []


NAMES = st.lists(st.text(st.sampled_from("ab/0\u00e9😀"), min_size=1, max_size=6), min_size=1, max_size=40)


@given(NAMES, st.integers(1, 12))
def test_parts_are_disjoint_and_cover_all(names: list[str], limit: int) -> None:
    """Whatever the names, each lies in exactly one part, in order, and there are no more than allowed."""
    parts = split(names, limit)
    assert 1 <= len(parts) <= limit
    assert parts == sorted(parts, key=str.encode)
    for name in names:
        assert sum(name.startswith(part) for part in parts) == 1
