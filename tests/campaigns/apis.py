"""`make apis`: thousands of histories of polled APIs, with faults, late rows, moving lists and restarts.

`python -m tests.campaigns.apis [--examples N]`. N histories for each way in which a list rises and is paged. Prints
what was done and whether every version that a complete poll showed was one event and nothing was missed; exits 1 with
the history when a promise was broken.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from tests.support.api_histories import WORLDS, check


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="apis", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="histories of each kind of list")
    options = parser.parse_args(argv)
    broken = 0
    for rising, paging in WORLDS:
        started = time.monotonic()
        story, told = "", ""
        try:
            done = check(rising, paging, options.examples)
            told = ", ".join(f"{what} {n}" for what, n in sorted(done.items()))
        except Exception:
            story = traceback.format_exc()
            broken += 1
        spent = time.monotonic() - started
        print(f"apis {rising} {paging}: {'BROKEN' if story else told} ({spent:.0f} s)", flush=True)
        if story:
            print(story)
    print(f"promises broken in {broken} worlds" if broken else "no promise broken: nothing lost, doubled or mistyped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
