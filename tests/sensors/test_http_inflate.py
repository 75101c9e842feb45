"""Packed bodies: the same whole or in pieces, never further than asked, and broken ones are known."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.http_inflate import Undecodable, unpacker_of


def _bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "bare deflate": _bare,
    "zstd": zstd.compress,
    "identity": bytes,
}


def unpack(coding: str, packed: bytes, piece: int) -> list[bytes]:
    unpacker = unpacker_of(coding.removeprefix("bare "))
    found = [part for at in range(0, len(packed), piece) for part in unpacker.feed(packed[at : at + piece])]
    unpacker.end()
    return found


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=400), st.integers(1, 2_000), st.integers(1, 400))
def test_pieces_give_the_whole(coding: str, data: bytes, times: int, piece: int) -> None:
    """However the body is cut, and however much it becomes, what comes out is what was put in, in small pieces."""
    whole = data * times
    found = unpack(coding, PACK[coding](whole), piece)

    assert b"".join(found) == whole
    assert all(len(part) <= 1 << 16 for part in found)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_streams_are_one_body(coding: str) -> None:
    """As the formats allow; but not endlessly many of them, which would cost time for nothing."""
    assert b"".join(unpack(coding, PACK[coding](b"a") + PACK[coding](b"b"), 7)) == b"ab"
    with pytest.raises(Undecodable, match="more than 1000 streams"):
        unpack(coding, PACK[coding](b"a") * 2_000, 4_096)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_is_cut_off_is_known(coding: str) -> None:
    """A body that ends too early, is empty, or is something else, is no body."""
    packed = PACK[coding](b"data" * 100)
    for broken in (packed[:-1], packed[: len(packed) // 2], b""):
        with pytest.raises(Undecodable, match="cut off"):
            unpack(coding, broken, 5)
    with pytest.raises(Undecodable, match="is no"):
        unpack(coding, b"\xff\xff\xff plain text, and not packed at all", 50)


@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.binary(max_size=300))
def test_rubbish_is_an_error_or_data(coding: str, data: bytes) -> None:
    """Nothing but Undecodable ever comes of a stranger's bytes."""
    try:
        found = unpack(coding, data, 17)
    except Undecodable:
        return
    assert all(isinstance(part, bytes) for part in found)


def test_what_was_not_offered_is_refused() -> None:
    """Brotli, or several codings at once, were not asked for."""
    for coding in ("br", "gzip, gzip", "compress"):
        with pytest.raises(Undecodable, match="was not asked for"):
            unpacker_of(coding)


def test_padding_after_the_end_is_no_harm() -> None:
    """Some servers fill up with zeros."""
    assert b"".join(unpack("gzip", gzip.compress(b"x") + b"\0" * 512, 9)) == b"x"
