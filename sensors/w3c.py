"""W3C Trace Context, Level 2: reading, writing and minting `traceparent` text. Pure but for the random ids.

A context is kept as its `traceparent` text everywhere (rows, queues, environments), so that a restart, a retry or
another process continues exactly where the stored text says.
"""

import os
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
MAX_TRACESTATE = 512


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


def new_root(*, sampled: bool = True) -> str:
    """Mint the traceparent of a new trace's first span. The random flag of Level 2 is set."""
    ids = os.urandom(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-{'03' if sampled else '02'}"


def child_of(parent: str) -> str:
    """Mint the traceparent of a span below `parent` (valid traceparent text of our own making or parsed before)."""
    return f"{parent[:36]}{os.urandom(8).hex()}-{parent[53:55]}"
