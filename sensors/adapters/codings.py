"""Content codings of requests, undone within bounds: gzip, deflate and zstd. Pure.

In flow the bytes as they arrived (their signature is checked before), out flow those that were meant. However much the
input would become, no more than the cap is ever made of it, and no more than a few streams are opened for one body.
"""

import sys
import zlib
from collections.abc import Sequence
from typing import Any, Final

from sensors.errors import Refused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KNOWN: Final = ("gzip", "deflate", "zstd")
_NAMES: Final = {"x-gzip": "gzip"}
_WINDOW: Final = 23  # 8 MiB, what every decoder must offer; more would be memory that a stranger asks for
_MAX_STREAMS: Final = 16


def undone(body: bytes, values: Sequence[str], allowed: Sequence[str], cap: int) -> bytes:
    """Return the body without its codings. Raises Refused: 415 for what is not allowed, 413, or 400 when broken."""
    codings = [name.strip().lower() for value in values for name in value.split(",")]
    codings = [_NAMES.get(name, name) for name in codings if name not in ("", "identity")]
    if not codings:
        return body
    if len(codings) > 1 or codings[0] not in allowed:
        accept = ", ".join(allowed)
        reason = f"the content coding {', '.join(codings)[:100]!r} is not among {accept or 'those taken (none)'}"
        raise Refused(415, "content_encoding", reason, headers={"accept-encoding": accept})
    try:
        found = _inflated(body, codings[0], cap)
    except (zlib.error, zstd.ZstdError, EOFError, ValueError) as error:
        reason = f"the body is no {codings[0]}: {str(error)[:200]}"
        raise Refused(400, "bad_coding", reason, public="the body's content coding is broken") from error
    if len(found) > cap:
        raise Refused(413, "too_large", f"the body becomes more than {cap} bytes")
    return found


def _inflated(body: bytes, coding: str, cap: int) -> bytes:
    """Return at most one byte more than the cap. Raises ValueError for what is cut off, or followed by something."""
    parts: list[bytes] = []
    room, rest = cap + 1, body
    for _ in range(_MAX_STREAMS):
        stream = _opened(coding, rest)
        parts.append(stream.decompress(rest, max_length=room) if coding == "zstd" else stream.decompress(rest, room))
        room -= len(parts[-1])
        if room <= 0:
            break
        if not stream.eof:
            raise ValueError("the stream is cut off")
        rest = stream.unused_data
        if not rest:
            break
        if coding == "deflate":
            raise ValueError("something follows the stream")
    else:
        raise ValueError("it holds too many streams")
    return b"".join(parts)


def _opened(coding: str, data: bytes) -> Any:
    if coding == "gzip":
        return zlib.decompressobj(wbits=31)
    if coding == "zstd":
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})
    # `deflate` is zlib's format; senders that leave its head out are so common that those are taken too
    headed = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return zlib.decompressobj(wbits=15 if headed else -15)
