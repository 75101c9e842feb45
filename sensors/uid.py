"""Uids: opaque, time-ordered names of everything we store.

A uid is a prefix and 26 characters of lower-case Crockford base32: 48 bits of milliseconds, then 80 random bits.
In flows the moment (UTC microseconds) and 10 random bytes; out flows text that sorts by creation time, which keeps
the index pages that are being written few and warm.
"""

import os

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_MASK = 1023

EVENT = "evt_"
TRIGGER_EVENT = "trg_"
RUN = "run_"
TASK_RUN = "tsk_"
DECISION = "dec_"
DEAD_LETTER = "ddl_"
ACTION = "act_"
REPLAY = "rpl_"
ALERT = "alr_"
ALERT_MESSAGE = "alm_"
TOKEN = "tok_"  # noqa: S105 - the prefix of a uid


def make_uid(prefix: str, at: int, entropy: bytes) -> str:
    """Build the uid of `prefix` for the moment `at` (UTC microseconds) from 10 bytes of entropy. Pure."""
    n = ((at // 1000 & 0xFFFF_FFFF_FFFF) << 80) | int.from_bytes(entropy, "big")
    pairs = _PAIRS
    return (
        prefix
        + pairs[n >> 120 & _MASK]
        + pairs[n >> 110 & _MASK]
        + pairs[n >> 100 & _MASK]
        + pairs[n >> 90 & _MASK]
        + pairs[n >> 80 & _MASK]
        + pairs[n >> 70 & _MASK]
        + pairs[n >> 60 & _MASK]
        + pairs[n >> 50 & _MASK]
        + pairs[n >> 40 & _MASK]
        + pairs[n >> 30 & _MASK]
        + pairs[n >> 20 & _MASK]
        + pairs[n >> 10 & _MASK]
        + pairs[n & _MASK]
    )


def new_uid(prefix: str, at: int) -> str:
    """Build a fresh uid of `prefix` for the moment `at` (UTC microseconds), entropy from the operating system."""
    return make_uid(prefix, at, os.urandom(10))


class UidSeries:
    """Fresh uids of one moment, each greater than the one before; the first is random. For those who need many."""

    __slots__ = ("_head", "_high", "_n", "_prefix")

    def __init__(self, prefix: str, at: int, entropy: bytes | None = None) -> None:
        """`at` is UTC microseconds, `entropy` 10 bytes (from the operating system unless given)."""
        drawn = int.from_bytes(os.urandom(10) if entropy is None else entropy, "big") >> 1  # so that none overflows
        self._n = ((at // 1000 & 0xFFFF_FFFF_FFFF) << 80) | drawn
        self._prefix = prefix
        self._high = -1
        self._head = ""

    def __call__(self) -> str:
        """Return the next one."""
        n = self._n = self._n + 1
        if n >> 20 != self._high:  # all but the last four characters, which change every million uids
            self._high = n >> 20
            whole = make_uid(self._prefix, (n >> 80) * 1000, (n & ((1 << 80) - 1)).to_bytes(10, "big"))
            self._head = whole[:-4]
        return self._head + _PAIRS[n >> 10 & _MASK] + _PAIRS[n & _MASK]
