"""`make objects`: thousands of stories of objects, notifications and processes, on every place that keeps objects.

`python -m tests.campaigns.objects [--examples N] [--place NAME]`. N examples in memory; on disk and on real servers,
which are slower, a part of it. Prints what was done and whether every version that survived a scan was told exactly
once; exits 1 with the story when a promise was broken.
"""

import argparse
import contextlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.support.aws import running_ministack, running_seaweedfs
from tests.support.azure import running_azurite
from tests.support.dfs_gateway import running_gateway
from tests.support.object_machine import MakeWorld, check
from tests.support.object_places import IN_MEMORY, buckets, file_systems, files

SHARES = {**dict.fromkeys(IN_MEMORY, 1.0), "files": 0.3, "ministack": 0.1, "seaweedfs": 0.05, "lake": 0.05}
LEAST_PART = 5 << 20  # bytes; as S3 itself demands of every part but the last
_STEPS = 50


@contextlib.contextmanager
def opened(place: str) -> Iterator[MakeWorld]:
    """Open a place by its name."""
    with contextlib.ExitStack() as stack:
        match place:
            case "files":
                yield files()
            case "ministack":
                yield buckets(stack.enter_context(running_ministack("s3")))
            case "seaweedfs":
                yield buckets(stack.enter_context(running_seaweedfs()), LEAST_PART)
            case "lake":
                azurite = stack.enter_context(running_azurite())
                yield file_systems(stack.enter_context(running_gateway(azurite)))
            case _:
                yield IN_MEMORY[place]


def campaign(place: str, examples: int) -> tuple[Counter[str], str]:
    """Run the machine on a place; return what was done, and the story of a broken promise (empty: none)."""
    with opened(place) as make:
        try:
            return check(make, examples=examples, steps=_STEPS, shrink=place in IN_MEMORY), ""
        except Exception:
            return Counter(), traceback.format_exc()


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="objects", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="stories in memory; a part of it elsewhere")
    parser.add_argument("--place", choices=SHARES, default=None)
    options = parser.parse_args(argv)
    broken = 0
    for place in SHARES if options.place is None else (options.place,):
        started = time.monotonic()
        tally, story = campaign(place, max(1, round(options.examples * SHARES[place])))
        told = ", ".join(f"{what} {n}" for what, n in sorted(tally.items()))
        print(f"objects {place}: {'BROKEN' if story else told} ({time.monotonic() - started:.0f} s)", flush=True)
        if story:
            broken += 1
            print(story)
    kept = "no promise broken: nothing lost, doubled, told out of order, or told as deleted that was there"
    print(f"promises broken on {broken} places" if broken else kept)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
