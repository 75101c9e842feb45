"""The check `reconcile`: another dataset agrees with this one, on how many rows, on a sum, or on which keys there are.

The other side is asked by queries in its own store; of keys, only the keys come here.
"""

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import Any

from pipelines.checks.data import Data, share
from pipelines.checks.finding import SAMPLE, SHOWN, Around, Unfit, Verdict
from pipelines.checks.options import Reconcile
from pipelines.datasets.asking import ask, shown, table_of
from pipelines.datasets.written import TargetBusy, TargetUnusable


def reconcile(data: Data, options: Reconcile, around: Around) -> Verdict:
    """Judge whether the other dataset agrees."""
    import narwhals as nw

    if options.on == "keys":
        return _keys(data, options, around)
    if options.on == "count":
        ours: Any = data.rows
        theirs: Any = _ask(options, around, f"select count(*) from {_table(options)}")[0][0]  # noqa: S608 - names are quoted
        what = "rows"
    else:
        name = str(options.column)
        if not data.kind(name).is_numeric():
            raise Unfit(f"reconcile could not be evaluated: {name} is {data.types[name]}, which has no sum")
        ours = data.answer(data.frame.select(nw.col(name).sum()))[0][0] or 0
        column = _quoted(options.other_column or name)
        theirs = _ask(options, around, f"select sum({column}) from {_table(options)}")[0][0] or 0  # noqa: S608 - names are quoted
        what = f"as the sum of {name}"
    if not (isfinite(ours) and isfinite(theirs)):
        raise Unfit(f"reconcile could not be evaluated: the sums are {ours} here and {theirs} there")
    apart = abs(Decimal(str(ours)) - Decimal(str(theirs)))
    allowed = max(Decimal(str(options.tolerance)), Decimal(str(options.tolerance_share)) * abs(Decimal(str(theirs))))
    other = shown(options.other)
    expected = f"{theirs} {what}, as {other} has" + (f", give or take {allowed:f}" if allowed else "")
    actual = f"{ours} {what}"
    if apart <= allowed:
        return Verdict(True, f"{actual}, {other} has {theirs}", expected, actual)
    gap = f"a gap of {apart:f} ({share(float(apart), float(abs(Decimal(str(theirs)))) or 1.0)})"
    return Verdict(False, f"{actual}, {other} has {theirs}: {gap}, allowed are {allowed:f}", expected, actual)


def _keys(data: Data, options: Reconcile, around: Around) -> Verdict:
    import narwhals as nw
    import polars as pl

    names = list(data.columns(options.columns))
    theirs_names = options.other_columns or options.columns
    wanted = ", ".join(_quoted(name) for name in theirs_names)
    rows = _ask(options, around, f"select distinct {wanted} from {_table(options)}")  # noqa: S608 - names are quoted
    ours = data.frame.select(*(nw.col(name) for name in names)).unique().collect("polars").to_native()
    try:
        theirs = pl.DataFrame([tuple(row) for row in rows], schema=dict(ours.schema), orient="row", strict=False)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise Unfit(
            f"the keys {', '.join(theirs_names)} of {shown(options.other)} are of other types: {error}"
        ) from error
    missing = theirs.join(ours, on=names, how="anti", nulls_equal=True).sort(names)
    extra = ours.join(theirs, on=names, how="anti", nulls_equal=True).sort(names)
    apart = missing.height + extra.height
    allowed = max(options.tolerance, options.tolerance_share * theirs.height)
    other = shown(options.other)
    what = ", ".join(names)
    expected = f"the same {theirs.height} keys ({what}) as {other}" + (f", all but {allowed:g}" if allowed else "")
    parts = [
        f"{found.height} {words}{_such(data, names, found)}"
        for found, words in ((missing, f"of {other} are missing here"), (extra, "are only here"))
        if found.height
    ]
    actual = "; ".join(parts) or "the same keys"
    if apart <= allowed:
        return Verdict(True, f"{what}: {actual}", expected, actual)
    sample = [
        {**row, "only": where}
        for found, where in ((missing, "there"), (extra, "here"))
        for row in data.shown(names, found.head(SAMPLE).rows())
    ]
    return Verdict(False, f"{what}: {actual}, expected {expected}", expected, actual, sample[:SAMPLE])


def _such(data: Data, names: Sequence[str], found: Any) -> str:
    if any(data.hidden(name) for name in names):
        return ""
    rows = found.head(SHOWN).rows()
    return f", such as {'; '.join(', '.join(map(repr, row)) for row in rows)[:200]}"


def _ask(options: Reconcile, around: Around, query: str) -> Sequence[Sequence[Any]]:
    connection = None
    if options.connection is not None:
        connection = around.connections.get(options.connection)
        if connection is None:
            raise Unfit(f"there is no connection {options.connection!r}, through which {options.other} would be read")
    try:
        return ask(options.other, connection, query, around.base)
    except (TargetBusy, TargetUnusable) as error:
        raise Unfit(f"the other dataset could not be asked: {error}") from error


def _table(options: Reconcile) -> str:
    try:
        return table_of(options.other)
    except ValueError as error:
        raise Unfit(str(error)) from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
