"""W3C Trace Context, Level 2: reading, writing and minting `traceparent` text. Pure but for the random ids.

A context is kept as its `traceparent` text everywhere (rows, queues, environments), so that a restart, a retry or
another process continues exactly where the stored text says. What comes from outside is written anew as version 00:
flags that version does not define are cleared, and whatever a later version adds behind them is left out.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_KNOWN_FLAGS = 0x03  # sampled, random
MAX_TRACESTATE: Final = 512
_MAX_MEMBERS = 32
_LONG = 128  # characters of a member that is left out first
_KEY = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A parsed traceparent: lower-case hex ids and the flags byte."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Say whether the sender recorded it."""
        return bool(self.flags & 1)

    @property
    def text(self) -> str:
        """Return it as a traceparent of version 00, with the flags that it defines."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & _KNOWN_FLAGS:02x}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Read a traceparent; None for anything the recommendation calls invalid (it is then as if it were absent)."""
    if text is None:
        return None
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == "00" and rest):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16))


def one_traceparent(values: Sequence[str] | None) -> str | None:
    """Return the traceparent of a request's headers, written anew; None unless exactly one valid one came."""
    if values is None or len(values) != 1:
        return None
    parsed = parse_traceparent(values[0])
    return None if parsed is None else parsed.text


def parse_tracestate(values: Sequence[str] | None) -> str | None:
    """Return the members of all tracestate headers in order, within bounds; None for nothing, or for what is invalid.

    More than 32 members, a member that is none, or a key that comes twice make all of it invalid. What is longer than
    512 characters loses whole members: those beyond 128 characters first, then the last ones.
    """
    if not values:
        return None
    members: list[str] = []
    keys: set[str] = set()
    for text in ",".join(values).split(","):
        member = text.strip(" \t")
        if not member:
            continue
        key, equals, value = member.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value) or key in keys:
            return None
        keys.add(key)
        members.append(member)
    if not members or len(members) > _MAX_MEMBERS:
        return None
    return _bounded(members)


def _bounded(members: list[str]) -> str | None:
    def size() -> int:
        return sum(map(len, members)) + len(members) - 1

    for member in [member for member in reversed(members) if len(member) > _LONG]:
        if size() <= MAX_TRACESTATE:
            break
        members.remove(member)
    while members and size() > MAX_TRACESTATE:
        members.pop()
    return ",".join(members) or None


def new_root(*, sampled: bool = True) -> str:
    """Mint the traceparent of a new trace's first span. The random flag of Level 2 is set."""
    ids = os.urandom(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-{'03' if sampled else '02'}"


def child_of(parent: str) -> str:
    """Mint the traceparent of a span below `parent` (valid traceparent text of our own making or parsed before)."""
    return f"{parent[:36]}{os.urandom(8).hex()}-{parent[53:55]}"
