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
