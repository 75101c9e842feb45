"""`make kafka`: each matching record is exactly one event and one run, whatever happens to whom.

`python -m tests.campaigns.kafka [--records N] [--brokers 1|3] [--rate N] [--seed N] [--json]`. Members of one group on
one PostgreSQL read a topic of a Kafka cluster that is written at a pace, while members, brokers and the store are
killed, stopped, paused and started. Prints what was acknowledged, found, lost and doubled; exits 1 when any promise
was broken, and names the folder in which the evidence is.
"""

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns._kafka_rounds import ALL, Outcome, Plan, run

_MEMBERS_ONLY = tuple(name for name in ALL if "broker" not in name)


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the figures."""
    history, ledger, kinds = outcome.history, outcome.ledger, Counter(found.kind for found in outcome.violations)
    hot = sum(record.hot for record in history.log)
    return {
        "seconds": round(outcome.seconds),
        "acknowledged": len(history.acked),
        "unknown_to_the_producer": outcome.unknown,
        "in_the_log": len(history.log),
        "matching": hot,
        "events": len(ledger.events),
        "runs": len(ledger.runs),
        "counted_unmatched": ledger.counters.get(("sensor", "unmatched"), 0),
        "counted_duplicate": ledger.counters.get(("sensor", "duplicate"), 0),
        "takeovers_of_partitions": ledger.epochs,
        "answers_to_commits_lost": history.answers_lost,
        "samples": history.samples,
        "troubles": dict(history.troubles),
        "lost": kinds["lost"],
        "doubled": kinds["doubled"],
        "violations": dict(kinds),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="kafka", description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=3)
    parser.add_argument("--rate", type=float, default=900.0, help="records a second")
    parser.add_argument("--seed", type=int, default=None, help="of the plan: who, and how long")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(argv)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers that are away are the point
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    base = Path(os.environ.get("TIDEGATE_CAMPAIGN_DIR") or tempfile.mkdtemp(prefix="tidegate-kafka-campaign-"))
    print(f"kafka: seed {seed}, folder {base}", flush=True)
    troubles = ALL if options.brokers > 1 else _MEMBERS_ONLY
    plan = Plan(options.records, options.partitions, options.brokers, options.rate, troubles)
    outcome = run(plan, seed, base)
    figures = summary(outcome)
    print()
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):<26}{_told(value)}")
    for violation in outcome.violations:
        print(f"  ! {violation.kind}: {violation.what}")
    if outcome.violations:
        print(f"  evidence: {base}")
    else:
        shutil.rmtree(base, ignore_errors=True)
    if options.json:
        print(json.dumps({"seed": seed, "ok": not outcome.violations, **figures}))
    return 1 if outcome.violations else 0


def _told(value: Any) -> str:
    """Write a figure for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {n}" for key, n in value.items()) or "none"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
