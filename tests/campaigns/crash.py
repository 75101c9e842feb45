"""`make crash`: at least 300 rounds of `kill -9` at random and at named points, on SQLite and on PostgreSQL.

`python -m tests.campaigns.crash [--rounds N] [--store sqlite|postgresql|both] [--seed N] [--json]`. N rounds per store.
Prints what was acknowledged, found, lost and doubled; exits 1 when any promise was broken, and names the folder in
which the evidence is.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.campaigns._checker import allowed_repeats, check
from tests.campaigns._history import History
from tests.campaigns._rounds import Campaign, Outcome
from tests.campaigns._stores import open_place
from tests.campaigns._syncs import StraceMissing, count_syncs
from tidegate.failpoints import POINTS

STORES = ("sqlite", "postgresql")
# Joins have a campaign of their own (`make joins`), and tests/acceptance/test_alerts.py passes the points of alerts.
PASSED = tuple(point for point in POINTS if not point.startswith(("join.", "replay.", "alerts.")))
_SHOWN = 20


def campaign(
    store: str,
    rounds: int,
    seed: int,
    folder: Path,
    launcher: Sequence[str] = (),
    points: Sequence[str] = PASSED,
) -> Outcome:
    """Run the rounds on one store, in a folder that stays; the caller removes it."""
    folder.mkdir(parents=True)
    with open_place(store, folder) as place:
        outcome = asyncio.run(Campaign(place, folder, seed, launcher).run(rounds, points))
        if outcome.violations:
            place.keep(folder)
    if outcome.violations:
        _keep(outcome, folder)
    return outcome


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of one store."""
    history, kinds = outcome.history, Counter(violation.kind for violation in outcome.violations)
    starts = sorted(life.ready - life.started for life in history.lives.values() if life.ready is not None)
    lost_by_paused = sum(len(at) for (life, _), at in history.let_go.items() if history.lives[life].pauses)
    known = {event.uid for event in outcome.ledger.events}
    return {
        "store": outcome.store,
        "rounds": outcome.rounds,
        "seconds": round(outcome.seconds, 1),
        "processes": len(history.lives),
        "start_to_ready_s": round(starts[len(starts) // 2], 2) if starts else None,
        "acknowledged": len({ack.id for ack in history.acks}),
        "found": len({ack.id for ack in history.acks if ack.uid in known}),
        "files": len(history.drops),
        "runs": len(outcome.ledger.runs),
        "requests": len(history.hits),
        "repeats_allowed": allowed_repeats(history) - kinds["repeated"],
        "leases_lost_by_paused": lost_by_paused,
        "leases_lost_by_others": sum(map(len, history.let_go.values())) - lost_by_paused,
        "lost": kinds["lost"] + kinds["unrequested"] + kinds["torn"],
        "doubled": kinds["doubled"] + kinds["repeated"] + kinds["started-twice"] + kinds["recorded-twice"],
        "stuck": kinds["stuck"],
        "failed": kinds["failed"],
        "orphans": kinds["orphan"],
        "attempts_of_children": len(history.marks),
        "integrity": "ok" if not kinds["corrupt"] else "broken",
        "kills": dict(sorted(outcome.kills.items())),
        "points_never_hit": sorted(set(PASSED) - {point for point, n in outcome.fired.items() if n}),
        "violations": dict(kinds),
    }


def _keep(outcome: Outcome, folder: Path) -> None:
    """Write down what was seen, beside the store and the logs."""
    (folder / "violations.txt").write_text(
        "".join(f"{violation.kind}: {violation.what}\n" for violation in outcome.violations)
    )
    history = outcome.history
    with (folder / "history.jsonl").open("w") as file:
        for name, items in (("life", history.lives.values()), ("ack", history.acks), ("drop", history.drops)):
            file.writelines(json.dumps({"what": name, **asdict(item)}) + "\n" for item in items)
        file.writelines(json.dumps({"what": "hit", **asdict(hit)}) + "\n" for hit in history.hits)


def _print(figures: Mapping[str, Any]) -> None:
    print(f"\n{figures['store']}: {figures['rounds']} rounds, {figures['processes']} processes, {figures['seconds']} s")
    for name, value in figures.items():
        if name in ("store", "rounds", "processes", "seconds"):
            continue
        print(f"  {name.replace('_', ' '):<22}{_told(value)}")


def _told(value: Any) -> str:
    """Write a figure for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {n}" for key, n in value.items()) or "none"
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def _syncs(folder: Path) -> History:
    """Count the syncs of acknowledged webhooks, which no kill can see."""
    history = History(calm=0.0)
    history.syncs = asyncio.run(count_syncs(folder, 50))
    return history


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="rounds on each store")
    parser.add_argument("--store", choices=(*STORES, "both"), default="both")
    parser.add_argument("--seed", type=int, default=None, help="of the plan: which point, which pass, how long")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    base = Path(os.environ.get("TIDEGATE_CAMPAIGN_DIR") or tempfile.mkdtemp(prefix="tidegate-crash-"))
    print(f"crash: seed {seed}, folder {base}", flush=True)
    broken = False
    told: list[dict[str, Any]] = []
    for store in STORES if options.store == "both" else (options.store,):
        outcome = campaign(store, options.rounds, seed, base / store)
        figures = summary(outcome)
        if store == "sqlite":
            try:
                syncs = _syncs(base / "syncs")
            except StraceMissing as error:
                figures["syncs"] = str(error)
            else:
                figures["syncs"] = "{} webhooks one after the other, {} syncs".format(*(syncs.syncs or (0, 0)))
                outcome.violations += [v for v in check(syncs, type(outcome.ledger)()) if v.kind == "unsynced"]
                figures["violations"] = dict(Counter(violation.kind for violation in outcome.violations))
        told.append(figures)
        _print(figures)
        if outcome.violations:
            broken = True
            for violation in outcome.violations[:_SHOWN]:
                print(f"  ! {violation.kind}: {violation.what}")
            if len(outcome.violations) > _SHOWN:
                print(f"  ! … {len(outcome.violations) - _SHOWN} more")
            print(f"  evidence: {base / store}")
        else:
            shutil.rmtree(base / store, ignore_errors=True)
    if not broken:
        shutil.rmtree(base, ignore_errors=True)
    if options.json:
        print(json.dumps({"seed": seed, "ok": not broken, "stores": told}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
