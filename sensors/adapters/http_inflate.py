"""Compressed answers: unpacked as they arrive, never further than a limit. Pure.

In flow the pieces of a body, out flow pieces of at most 64 KiB each, so that neither a bomb nor a long body is ever
held twice. Several streams one after the other are one body, up to a number.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ACCEPTED: Final = "gzip, deflate, zstd"
_PIECE: Final = 1 << 16
_WINDOW: Final = 23  # 8 MiB, what every decoder must offer
_MAX_STREAMS: Final = 1_000


class Undecodable(ValueError):
    """A body is not what its Content-Encoding says."""


class Unpacker(Protocol):
    """Unpacks one body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what more of the body becomes. Raises Undecodable."""
        ...

    def end(self) -> None:
        """Say that the body is over. Raises Undecodable when it was cut off."""
        ...


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        return


class _Packed:
    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: Any = None
        self._streams = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._stream is None:
                if self._streams:
                    data = data.lstrip(b"\0")  # some pad with zeros
                if not data:
                    return
                self._open(data)
            try:
                piece = self._stream.decompress(data, _PIECE)
            except (zlib.error, zstd.ZstdError) as error:
                raise Undecodable(f"the body is no {self._coding}: {str(error)[:100]}") from error
            stream = self._stream
            if stream.eof:
                data, self._stream = stream.unused_data, None
            else:
                data = b"" if self._coding == "zstd" else stream.unconsumed_tail
            if piece:
                yield piece
            hungry = stream.needs_input if self._coding == "zstd" else not data and len(piece) < _PIECE
            if self._stream is not None and hungry:
                return

    def end(self) -> None:
        if self._stream is not None or self._streams == 0:
            raise Undecodable(f"the {self._coding} body is cut off")

    def _open(self, data: bytes) -> None:
        self._streams += 1
        if self._streams > _MAX_STREAMS:
            raise Undecodable(f"the body is more than {_MAX_STREAMS} streams of {self._coding}")
        if self._coding == "zstd":
            self._stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})
        elif self._coding == "gzip":
            self._stream = zlib.decompressobj(wbits=31)
        else:  # zlib by the book (its first byte ends in 8), and bare deflate in the wild (which never begins so)
            self._stream = zlib.decompressobj(wbits=15 if data[0] & 0x0F == 8 else -15)


def unpacker_of(coding: str) -> Unpacker:
    """Return what unpacks a body of this Content-Encoding. Raises Undecodable for one that was not offered."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    if name in ("gzip", "x-gzip", "deflate", "zstd"):
        return _Packed(name.removeprefix("x-"))
    raise Undecodable(f"the body is encoded as {name[:40]!r}, which was not asked for")
