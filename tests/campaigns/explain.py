"""`make explain`: many random pairs of a rule and an event; every change that an explanation names is applied.

`python -m tests.campaigns.explain [--pairs N] [--seed N]`. Prints how many clauses failed, of how many a change was
named, and of how many it did not turn the clause; exits 1 when that is any.
"""

import argparse
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sensors.event import Event
from tests.support.rule_worlds import conditions, events, filters
from tests.triggers.test_explain_is_right import check_pair


def _campaign(pairs: int, number: int) -> bool:
    told: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=pairs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(filters() | st.none(), conditions() | st.none(), events())
    def look(raw: object, when: str | None, one: Event) -> None:
        told["pairs"] += 1
        try:
            failed, named = check_pair(raw, when, one)
        except AssertionError as error:
            told["wrong"] += 1
            print(f"wrong: filter={raw!r} when={when!r} event={one!r}: {error}", file=sys.stderr)
        else:
            told["failed"] += failed
            told["named"] += named

    began = time.monotonic()
    look()
    print(
        f"pairs={told['pairs']:,} clauses_failed={told['failed']:,} changes_named={told['named']:,}"
        f" ({told['named'] / max(1, told['failed']):.1%}) wrong={told['wrong']}"
        f" pairs_per_s={told['pairs'] / (time.monotonic() - began):,.0f} seed={number}"
    )
    return not told["wrong"]


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    return 0 if _campaign(asked.pairs, asked.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
