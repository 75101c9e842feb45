"""What the tasks of `make writes` do in their workers: rows of a round, and to stand still at a step until killed."""

import functools
import time
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.context import Context
from pipelines.datasets import ledger
from pipelines.datasets.written import Stamp
from pipelines.workers import publishing

ROWS = 50
DISPOSITIONS = ("append", "replace", "merge", "soft_delete")
_DECIDE = ledger.decide


def rows(round_: int) -> pl.DataFrame:
    """Return the rows of a round: every round brings some ids anew, and leaves some of the former ones out."""
    return pl.DataFrame({"id": range(round_, round_ + ROWS), "round": [round_] * ROWS})


def extract(context: Context, round_: int, hold: str, marker: str) -> pl.DataFrame:
    """Return the rows, after standing still if that is the step."""
    _stand_still("extract/started", hold, marker)
    return rows(round_)


def load(extract: pl.DataFrame, context: Context, hold: str, marker: str, sabotage: bool = False) -> pl.DataFrame:
    """Hand the rows to the dataset, whose writer stands still if that is the step."""

    def reached(point: str) -> None:
        _stand_still(f"{context.task}/{point}", hold, marker)

    vars(publishing)["Stamp"] = functools.partial(Stamp, reached=reached)  # for this process only
    if sabotage:
        ledger.decide = _forgetful
    _stand_still(f"{context.task}/started", hold, marker)
    return extract


def report(append: Any, replace: Any, merge: Any, soft_delete: Any, hold: str, marker: str) -> int:
    """Count what was handed on."""
    _stand_still("report/started", hold, marker)
    return sum(frame.height for frame in (append, replace, merge, soft_delete))


def _stand_still(step: str, hold: str, marker: str) -> None:
    """At the step of this round, once: say so, and wait to be killed with the service."""
    if step == hold and not Path(marker).exists():
        Path(marker).write_text(step)
        time.sleep(120)


def _forgetful(records: Any, stamp: Stamp, mode: str, dataset: str) -> ledger.Verdict:
    """Decide as if nothing had been written: what the checker must catch."""
    verdict = _DECIDE((), stamp, mode, dataset)
    return ledger.Verdict(None, False, None, verdict.seq + len(records))
