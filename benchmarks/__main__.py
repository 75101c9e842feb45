"""`python -m benchmarks NAME [--json]`: measure one thing, or `all`.

Prints as its last line one JSON object: `ratio` (ours ÷ the baseline of the same run, null where there is no
baseline) and the figures behind it. Without `--json` a table for people comes first.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

NAMES = ("webhook", "latency", "runs", "triggers", "memory", "listing", "kafka", "dag", "handover")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Tidegate against a baseline in the same run."
    )
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    parser.add_argument("--objects", type=int, default=None, help="of listing: how many, instead of a million")
    parser.add_argument("--records", type=int, default=None, help="of kafka: how many, instead of 200,000")
    given = parser.parse_args(arguments)
    names = NAMES if given.name == "all" else (given.name,)
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        more = {"objects": given.objects} if name == "listing" and given.objects else {}
        if name == "kafka" and given.records:
            more = {"records": given.records}
        found[name] = importlib.import_module(f"benchmarks.{name}").measure(**more)
        if not given.json:
            _show(name, found[name])
    print(json.dumps(found if given.name == "all" else found[given.name]))
    return 0


def _show(name: str, figures: Mapping[str, Any]) -> None:
    print(f"{name}:")
    for key, value in figures.items():
        print(f"  {key:28} {value}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
