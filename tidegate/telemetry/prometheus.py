"""Snapshots become the text that Prometheus reads (exposition format 0.0.4), by OpenTelemetry's naming rules.

Dots and other characters become `_`, the unit becomes a suffix (`s` → `_seconds`, `By` → `_bytes`; `{run}` and `1`
none), counters end in `_total`. Label values may be any text: backslashes, quotes and line breaks are escaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from tidegate.telemetry.metrics import Kind, Point, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes"}
_INVALID = re.compile(r"[^a-zA-Z0-9_]+")


def metric_name(name: str, unit: str, kind: Kind) -> str:
    """Return the Prometheus name of an OpenTelemetry metric."""
    plain = _sanitised(name)
    suffix = _UNITS.get(unit, "")
    if suffix and not plain.endswith(f"_{suffix}"):
        plain = f"{plain}_{suffix}"
    if kind is Kind.COUNTER and not plain.endswith("_total"):
        plain += "_total"
    return plain


def render(families: Iterable[Snapshot]) -> str:
    """Return the whole page."""
    return "".join(line for family in families for line in _family(family))


def _family(family: Snapshot) -> Iterator[str]:
    if not family.points:
        return
    name = metric_name(family.name, family.unit, family.kind)
    help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {help_text}\n# TYPE {name} {family.kind.value}\n"
    label_names = [_sanitised(label) for label in family.label_names]
    for point in family.points:
        labels = [f'{label}="{_escaped(value)}"' for label, value in zip(label_names, point.labels, strict=True)]
        if family.kind is Kind.HISTOGRAM:
            yield from _histogram(name, labels, point, family.bounds)
        else:
            yield f"{name}{_braced(labels)} {_number(point.value)}\n"


def _histogram(name: str, labels: Sequence[str], point: Point, bounds: Sequence[float]) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*(_number(bound) for bound in bounds), "+Inf"), point.counts, strict=True):
        seen += count
        limit = f'le="{bound}"'
        yield f"{name}_bucket{_braced([*labels, limit])} {seen}\n"
    yield f"{name}_sum{_braced(labels)} {_number(point.value)}\n{name}_count{_braced(labels)} {seen}\n"


def _braced(labels: Sequence[str]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""


def _sanitised(name: str) -> str:
    plain = _INVALID.sub("_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


def _escaped(value: str) -> str:
    text = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
    return text.encode(errors="replace").decode()


def _number(value: float) -> str:
    if value != value:  # noqa: PLR0124 - the one number that is not itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
