"""Looking into files of any kind: compression, bounds, options, and files from somebody who means harm."""

import gzip
import tracemalloc
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sensors.adapters.content_options import ContentOptions
from sensors.adapters.contents import make_inspector
from tests.support.contents import Blob, inspector, look, types


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
async def test_a_bomb_is_unpacked_only_as_far_as_allowed(pack: Any) -> None:
    """A gigabyte behind a few kilobytes costs the bound, not the gigabyte."""
    bomb = pack(b"id,name\n" + b"1,x\n" * 50_000_000) if pack is zstd.compress else _gzip_bomb()
    assert len(bomb) < 1 << 20
    blob = Blob(bomb)
    await look("warm.csv.gz", pack(b"a,b\n1,2\n"))
    tracemalloc.start()
    try:
        found = await inspector(max_bytes="64KiB").inspect("a.csv", len(bomb), blob.read)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert types(found.data) == {"id": "int64", "name": "string"}
    assert found.data["rows_exact"] is False
    assert peak < 16 << 20


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b"id,name\n")]
    parts += [packer.compress(b"1,x\n" * 250_000) for _ in range(100)]
    return b"".join([*parts, packer.flush()])


async def test_several_streams_in_one_file_are_one_text() -> None:
    """As `cat a.gz b.gz` makes them; endlessly many end somewhere."""
    for pack in (gzip.compress, zstd.compress):
        data = pack(b"id,name\n") + pack(b"1,x\n") + pack(b"2,y\n")
        found = await look("a.csv", data)
        assert (found["rows"], found["rows_exact"]) == (2, True)
        assert found["compression"] == pack.__module__.rpartition(".")[2].removeprefix("_")
        empty = await look("a.csv", pack(b"") * 30_000)
        assert "error" in empty


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
async def test_a_broken_stream_says_so(pack: Any) -> None:
    """Cut off or damaged."""
    packed = pack(b"id,name\n" + bytes(range(65, 91)) * 400)
    assert "cut off" in (await look("a.csv", packed[:-6]))["error"]
    assert "cannot be decompressed" in (await look("a.csv", packed[:4] + b"\xff" * 40))["error"]


async def test_a_stream_that_asks_for_much_memory_is_refused() -> None:
    """A zstd window of more than 8 MiB."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(b"id\n" + b"1\n" * 100, mode=packer.FLUSH_BLOCK) + packer.flush()
    assert "cannot be decompressed" in (await look("a.csv", packed))["error"]


async def test_a_file_shorter_than_listed_says_so() -> None:
    """The listing said more bytes than there are."""
    for name in ("a.csv", "a.parquet"):
        found = await inspector().inspect(name, 5_000, Blob(b"").read)
        assert "could be read" in found.data["error"]


async def test_what_the_reader_raises_comes_through() -> None:
    """A source that is gone is not the file's fault."""

    async def read(start: int, length: int) -> bytes:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await inspector().inspect("a.csv", 10, read)


def test_nothing_is_inspected_unless_asked() -> None:
    """The default costs nothing; `expect` alone is asking."""
    assert make_inspector(ContentOptions()) is None
    assert make_inspector(ContentOptions.model_validate({"inspect": False})) is None
    assert make_inspector(ContentOptions.model_validate({"expect": {"columns": ["id"]}})) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"inspect": {"format": "xml"}},
        {"inspect": {"max_bytes": "1GiB"}},
        {"inspect": {"delimiter": '"'}},
        {"inspect": {"delimiter": ",,"}},
        {"inspect": "yes please"},
        {"expect": {}},
        {"expect": {"columns": ["id", "id"]}},
        {"expect": {"columns": {"id": "integre"}}},
        {"expect": {"columns": ["id"], "mode": "as_last"}},
        {"expect": {"rows": {}}},
        {"expect": {"rows": {"min": 5, "max": 1}}},
        {"expect": {"columns": ["id"], "on_violation": {"delete": True}}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: Mapping[str, Any]) -> None:
    """At the check, not at the first file."""
    with pytest.raises(ValidationError):
        ContentOptions.model_validate(options)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["a.csv", "a.tsv.gz", "a.json", "a.ndjson", "a.parquet", "a", "a.zst", ""]),
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from([b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b'"', b"'", b",", b";", b"\n", b"\r", b"{"])
            | st.sampled_from(
                [b"}", b"[", b"]", b":", b"\\", b"1", b"a", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"null"]
            ),
            max_size=60,
        ).map(b"".join),
    ),
    st.booleans(),
    st.booleans(),
)
async def test_any_bytes_under_any_name_have_a_clear_outcome(name: str, data: bytes, pack: bool, longer: bool) -> None:
    """Columns or a sentence, and data that can be stored; also when there is more than was read."""
    blob = Blob(gzip.compress(data) if pack else data)
    if longer:
        blob.data = blob.data.ljust(1024, b" ")
    found = await inspector(max_bytes=1024).inspect(name, len(blob.data) + longer, blob.read)
    assert ("error" in found.data) != ("schema" in found.data)
    assert "\\u0000" not in orjson.dumps(found.data).decode()
    assert all(size <= 1024 for size in blob.reads)
