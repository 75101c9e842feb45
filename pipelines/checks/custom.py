"""Checks of one's own: a Python function, a query, a schema of pandera. What they raise is a check that did not pass.

A query sees the data as the table `data`; over a frame it sees nothing else, no file and no network.
"""

import inspect
from typing import Any

from pipelines.checks.data import Data, word
from pipelines.checks.finding import SAMPLE, Around, Unfit, Verdict
from pipelines.checks.options import Custom, Pandera, Sql
from pipelines.datasets.values import as_frame


def custom(data: Data, options: Custom, around: Around) -> Verdict:
    """Judge by a function: True passes; False, words, or rows that are wrong do not."""
    function = around.resolve(options.function)
    named = dict(options.args)
    if "last" in inspect.signature(function).parameters:
        named.setdefault("last", around.last)
    name = options.function.rpartition(":")[2]
    try:
        answer = function(in_memory(data), **named)
    except AssertionError as error:
        answer = str(error) or "an assertion failed"
    except Exception as error:  # the function is the user's and may fail in any way
        said = "what it says is redacted" if data.hides else str(error)
        raise Unfit(f"{name} failed: {type(error).__name__}: {said}") from error
    message = ""
    if isinstance(answer, tuple) and len(answer) == 2:
        answer, message = answer[0], "" if data.hides else str(answer[1])
    expected = f"{name} says yes"
    if answer is None or answer is True:
        return Verdict(True, message or f"{name} found nothing wrong", expected, "yes")
    if answer is False:
        return Verdict(False, message or f"{name} says no", expected, "no")
    if isinstance(answer, str) and data.hides:
        answer = f"{name} says no; what it says is redacted"
    if isinstance(answer, str):
        return Verdict(False, answer, expected, answer)
    rows = as_frame(answer)
    if rows is None:
        raise Unfit(
            f"{name} returned {type(answer).__name__}; return True, False, words for what is wrong, "
            "or a DataFrame of the rows that are"
        )
    return _of_rows(data, rows, message or f"{name} found", expected)


def sql(data: Data, options: Sql, _around: Around) -> Verdict:
    """Judge by a query that returns the rows that are wrong."""
    import duckdb

    query = options.query.strip().rstrip(";")
    try:
        if isinstance(data.native, duckdb.DuckDBPyRelation):
            return _of_query(data, data.native.query("data", query))
        with duckdb.connect(config={"threads": 2}) as connection:
            connection.register("tidegate_data", _Stream(in_memory(data)))
            connection.execute("create table data as from tidegate_data")
            connection.execute("set enable_external_access = false")
            connection.execute("set python_enable_replacements = false")
            return _of_query(data, connection.sql(query))
    except duckdb.Error as error:
        said = str(error).partition("\n")[0] if not data.hides else "what it says is redacted"
        raise Unfit(f"the query could not be run: {said}") from error


def _of_query(data: Data, rows: Any) -> Verdict:
    if rows is None:
        raise Unfit("the query returns nothing; write one that selects the rows that are wrong")
    return _of_rows(data, rows.pl(), "the query found", "no row")


def pandera(data: Data, options: Pandera, around: Around) -> Verdict:
    """Judge by a schema of pandera, for frames of Polars."""
    from pandera.errors import SchemaError, SchemaErrors

    schema = around.resolve(options.schema_)
    expected = f"as {options.schema_} says"
    try:
        schema.validate(in_memory(data), lazy=True)
    except SchemaErrors as errors:
        cases = as_frame(errors.failure_cases)
        rows = [] if cases is None else cases.to_dicts()
        parts = list(dict.fromkeys(_case(data, row) for row in rows))
        more = f" (and {len(parts) - 5} more)" if len(parts) > 5 else ""
        sample = [{k: v for k, v in row.items() if k != "failure_case"} for row in rows] if data.hides else rows
        actual = "; ".join(parts[:5]) + more
        return Verdict(False, f"{options.schema_} refuses the data: {actual}", expected, actual, sample[:SAMPLE])
    except SchemaError as error:
        raise Unfit(f"{options.schema_} could not be evaluated: {error}") from error
    return Verdict(True, f"the data is {expected}", expected, "it is")


def _case(data: Data, row: dict[str, Any]) -> str:
    column, found = row.get("column"), row.get("failure_case")
    at = f"{column}: " if column else ""
    value = "" if found is None or data.hides else f", found {word(found)}"
    return f"{at}{row.get('check')}{value}"


def in_memory(data: Data) -> Any:
    """Return the data as a Polars DataFrame, as one's own code gets it."""
    frame = as_frame(data.native)
    return frame if frame is not None else data.frame.collect("polars").to_native()


def _of_rows(data: Data, rows: Any, found: str, expected: str) -> Verdict:
    if rows.height == 0:
        return Verdict(True, f"{found} nothing wrong", expected, "none")
    names = rows.columns[:12]
    sample = data.shown(names, rows.select(names).head(SAMPLE).rows())
    shown = "" if data.hides else f", such as {', '.join(f'{k}={v!r}' for k, v in sample[0].items())[:200]}"
    return Verdict(False, f"{found} {rows.height} rows{shown}", expected, f"{rows.height} rows", sample)


class _Stream:
    """A DataFrame as nothing but an Arrow stream: DuckDB then reads it without pyarrow."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)
