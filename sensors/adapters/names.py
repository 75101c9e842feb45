"""File names as text that may be stored. Names are hostile: anybody who may write a file chooses them.

A path below a root becomes a key: itself, but for control characters, which are percent-escaped (as is a `%` that looks
like an escape, so that no two paths share a key). A path that is not UTF-8, or too long for an index, has no such key:
it is odd, and known by a hash.
"""

import hashlib
import os
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

MAX_KEY = 1024  # bytes of UTF-8; PostgreSQL's index rows end at about 2,700
ODD = "/odd/"  # no key begins with a slash

_ESCAPE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|%(?=[0-9A-Fa-f]{2})")
_ESCAPED = re.compile("(?:%[0-9A-Fa-f]{2})+")


def is_odd(path: str) -> bool:
    """Say whether a path (as the file system API gives it) cannot be a key."""
    if len(path) <= MAX_KEY // 4 and path.isascii():
        return False
    try:
        return len(safe_path(path).encode()) > MAX_KEY
    except UnicodeEncodeError:
        return True


def safe_path(path: str) -> str:
    """Return the key of a path that is not odd; the inverse is `unsafe_path`."""
    return _ESCAPE.sub(lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), path)


def unsafe_path(key: str) -> str:
    """Return the path of a key."""
    return _ESCAPED.sub(lambda m: unquote_to_bytes(m[0]).decode(), key)


def odd_key(path: str) -> str:
    """Return the key under which an odd path is remembered."""
    return ODD + hashlib.sha256(os.fsencode(path)).hexdigest()[:40]


def quoted(path: str) -> str:
    """Return the path's bytes, percent-encoded as in a URL; plain ASCII. `unquoted` is the inverse."""
    return quote_from_bytes(os.fsencode(path))


def unquoted(text: str) -> str:
    """Return the path of percent-encoded bytes."""
    return os.fsdecode(unquote_to_bytes(text))
