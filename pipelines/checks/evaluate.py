"""Evaluates checks on data before it is published, or where it lies.

In flow the data and what is around it, out flow findings, one per check and in order. Each finding says what was
expected, what was found, and shows the first offending values. The arithmetic is narwhals', on a frame or in the
database. A check that cannot be evaluated (a missing column, a bound of another type) has not passed, and says so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipelines.checks.data import Data
from pipelines.checks.finding import Around, Finding, Unfit, Verdict
from pipelines.checks.registry import KINDS, options_of
from pipelines.checks.spec import CheckSpec, labels

_LONGEST = 600


def evaluate(data: Any, specs: Sequence[CheckSpec], around: Around) -> list[Finding]:
    """Return one finding per check, in order. `data` is a frame, or a relation of DuckDB."""
    if not specs:
        return []
    seen = Data(data)
    return [
        Finding(spec, label, _judged(seen.seen_by(spec), spec, around))
        for spec, label in zip(specs, labels(specs), strict=True)
    ]


def _judged(data: Data, spec: CheckSpec, around: Around) -> Verdict:
    try:
        options = options_of(spec)
    except ValueError as error:
        return Verdict(False, _cut(str(error)), "a check that can be evaluated", "it cannot")
    try:
        found = KINDS[spec.kind].judge(data, options, around)
    except Unfit as error:
        return Verdict(False, _cut(str(error)), "data that the check can be evaluated on", _cut(str(error)))
    except Exception as error:  # noqa: BLE001 - whatever the library says of the data is a finding, not a crash
        said = str(error).strip().partition("\n")[0] if not data.hides else "what it says is redacted"
        message = f"{spec.kind} could not be evaluated: {type(error).__name__}: {said}"
        return Verdict(False, _cut(message), "data that the check can be evaluated on", type(error).__name__)
    return replace(found, message=_cut(found.message), expected=_cut(found.expected), actual=_cut(found.actual))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
