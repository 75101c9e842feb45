"""Which traces are kept: a share of the new roots, decided from the trace id alone.

The same id gives the same answer everywhere (the rule of the SDKs' trace-id-ratio sampler), so services that share a
ratio keep the same traces. The ledger does not depend on it: an unsampled context is stored, propagated and linked
all the same.
"""

import os
from collections.abc import Callable

from sensors.w3c import new_root

_SPACE = 1 << 64


def keeps(trace_id: bytes, ratio: float) -> bool:
    """Say whether a trace of these 16 bytes is kept at this ratio (0..1). Pure."""
    return int.from_bytes(trace_id[8:], "big") < round(ratio * _SPACE)


def mint_root(ratio: float = 1.0) -> str:
    """Mint the context of a new trace; its sampled flag is set for `ratio` of them."""
    if ratio >= 1.0:
        return new_root()
    ids = os.urandom(24)
    text = ids.hex()
    return f"00-{text[:32]}-{text[32:]}-{'03' if keeps(ids[:16], ratio) else '02'}"


def root_minter(ratio: float) -> Callable[[], str]:
    """Return `mint_root` for one ratio, clamped to 0..1: what the ingest is handed."""
    share = min(1.0, max(0.0, ratio))
    if share >= 1.0:
        return new_root
    if share <= 0.0:
        return lambda: new_root(sampled=False)
    return lambda: mint_root(share)
