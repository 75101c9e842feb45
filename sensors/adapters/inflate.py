"""Compressed heads of files: as much as was asked for comes out, however much the input would become. Pure, blocking.

gzip and zstd are known by their first bytes, whatever the file is called.
"""

import sys
import zlib
from typing import Any, Final, Protocol

from sensors.adapters.shapes import Unreadable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES: Final = (".gz", ".gzip", ".zst", ".zstd")
_MAGIC: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_WINDOW: Final = 23  # 8 MiB, what every decoder must offer; more would be memory that a stranger asks for
_MAX_PARTS: Final = 10_000


class _Stream(Protocol):
    """What the decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int = ...) -> bytes: ...


def compression_of(head: bytes) -> str:
    """Return `gzip`, `zstd`, or nothing for a file that begins so."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return ""


def inflate(head: bytes, limit: int, *, whole: bool) -> tuple[bytes, bool]:
    """Return at most `limit` bytes of what a compressed head holds, and whether that is all of the file.

    `whole` says that the head is the whole file. Raises Unreadable for a stream that is broken or cut off.
    """
    name = compression_of(head)
    parts: list[bytes] = []
    room, rest = limit + 1, head  # one more byte tells whether there is more
    ended = False
    try:
        for _ in range(_MAX_PARTS):  # files may be several streams, one after the other
            stream = _opened(name)
            part = stream.decompress(rest, max_length=room)
            parts.append(part)
            room -= len(part)
            ended = stream.eof
            rest = stream.unused_data if ended else b""
            if room <= 0 or not ended or not rest.startswith(_magic(name)):
                break
        else:
            ended = False
    except (zlib.error, zstd.ZstdError) as error:
        raise Unreadable(f"it begins as {name} does and cannot be decompressed: {str(error)[:200]}") from error
    data = b"".join(parts)
    if len(data) > limit:
        return data[:limit], False
    if whole and not ended:
        raise Unreadable(f"the {name} stream is cut off")
    return data, whole and ended


def _opened(name: str) -> _Stream:
    if name == "gzip":
        gzip: Any = zlib.decompressobj(wbits=31)
        return gzip  # type: ignore[no-any-return]
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})


def _magic(name: str) -> bytes:
    return next(magic for magic, known in _MAGIC if known == name)
