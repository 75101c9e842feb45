"""A Delta table, local or on S3. The commit is the publish step: it holds only if nobody else has committed meanwhile.

Each commit carries the memory of writes in its own metadata. Rows are added as Delta adds them; every other disposition
reads what is there and replaces it, so tables that are merged into should be of a size that one worker holds.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from pipelines.datasets import ledger
from pipelines.datasets.columns import changes
from pipelines.datasets.combine import check_frame, combined
from pipelines.datasets.connections import aws_access
from pipelines.datasets.places import Moved
from pipelines.datasets.single_file import insist, left
from pipelines.datasets.target import Target
from pipelines.datasets.written import (
    Content,
    How,
    Judge,
    Look,
    Stamp,
    TargetUnusable,
    WriteRefused,
    Written,
    schema_of,
)

if TYPE_CHECKING:
    from deltalake import DeltaTable

_T = TypeVar("_T")
MEMORY: Final = "tidegate"
_RECENT: Final = 50  # commits in which the last one of ours is looked for before all are


def open_delta(
    target: Target, connection: Mapping[str, Any] | None = None, sleep: Callable[[float], None] = time.sleep
) -> "Delta":
    """Return the table; nothing is opened yet."""
    if target.scheme == "delta":
        return Delta(target, target.path, {}, sleep)
    return Delta(target, f"s3://{target.place}/{target.path}", _storage(connection), sleep)


class Delta:
    """One dataset in one Delta table."""

    def __init__(self, target: Target, uri: str, storage: Mapping[str, str], sleep: Callable[[float], None]) -> None:
        self._uri = uri
        self._storage = dict(storage)
        self._sleep = sleep
        self._name = target.name

    def write(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        """Publish the frame as `how` says. Returns after the commit."""
        check_frame(frame, how, stamp, self._name)
        return insist(self._name, lambda: self._once(frame, stamp, how, judge), self._sleep)

    def read(self) -> Content:
        """Return the rows of the last version. Raises TargetUnusable when there is no table."""
        table = self._table()
        if table is None:
            raise TargetUnusable(f"there is no Delta table in {self._uri} to read; has the task that writes it run?")
        memory, frame = self._memory(table), self._rows(table)
        return Content(frame, schema_of(frame), memory[-1].version if memory else None)

    def look(self) -> Look | None:
        """Return what the log tells; None when there is no table."""
        table = self._table()
        if table is None:
            return None
        memory = self._memory(table)
        files = self._told(lambda: _columns(table.get_add_actions(flatten=True)))
        rows, size = sum(files.get("num_records") or ()), sum(files.get("size_bytes") or ())
        schema = memory[-1].schema if memory else schema_of(self._empty(table))
        return Look(rows, size, schema, memory[-1].version if memory else None)

    def close(self) -> None:
        """Nothing is held."""

    def _once(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        from deltalake import write_deltalake

        table = self._table()
        memory = () if table is None else self._memory(table)
        verdict = ledger.decide(memory, stamp, how.mode, self._name)
        judge(verdict.last)
        if table is not None and verdict.done is not None and verdict.skip:
            if verdict.done.run != stamp.run:  # ours from now on, for whoever resumes us
                memory = ledger.adopted(memory, verdict.done, stamp)
                self._commit(
                    lambda: write_deltalake(
                        table, self._empty(table), mode="append", commit_properties=_properties(memory)
                    )
                )
            return left(verdict.done)
        append = how.mode == "append" and table is not None
        old = None if table is None else self._empty(table) if append else self._rows(table)
        result = combined(old, frame, how, stamp, self._name)
        schema = schema_of(result)
        record = ledger.record(stamp, how.mode, frame.height, schema, verdict.seq)
        properties = _properties(ledger.remembered(memory, record))
        stamp.reached("dataset.staged")
        stamp.reached("dataset.before_publish")
        if table is None:
            self._commit(
                lambda: write_deltalake(
                    self._uri,
                    result,
                    mode="error",
                    partition_by=list(how.partition_by) or None,
                    storage_options=self._storage or None,
                    commit_properties=properties,
                )
            )
        else:
            self._commit(
                lambda: write_deltalake(
                    table,
                    result,
                    mode="append" if append else "overwrite",
                    schema_mode="merge" if append else "overwrite",
                    commit_properties=properties,
                )
            )
        stamp.reached("dataset.published")
        before = schema_of(old) if old is not None else None
        return Written(frame.height, None, schema, record.version, changes(before, schema), created=table is None)

    def _table(self) -> "DeltaTable | None":
        try:
            from deltalake import DeltaTable
            from deltalake.exceptions import TableNotFoundError
        except ModuleNotFoundError as error:
            raise TargetUnusable("delta:// needs what an extra installs: tidegate[delta]") from error

        try:
            return self._told(lambda: DeltaTable(self._uri, storage_options=self._storage or None))
        except TargetUnusable as error:
            if isinstance(error.__cause__, TableNotFoundError):
                return None
            raise

    def _rows(self, table: "DeltaTable") -> Any:
        import polars as pl

        return self._told(lambda: pl.read_delta(table))

    def _empty(self, table: "DeltaTable") -> Any:
        import polars as pl

        return pl.DataFrame(schema=self._told(lambda: pl.scan_delta(table).collect_schema()))

    def _memory(self, table: "DeltaTable") -> tuple[ledger.Record, ...]:
        for most in (_RECENT, None):
            commits = self._told(lambda most=most: table.history(most))  # type: ignore[misc]  # bound as a default
            for commit in commits:
                if MEMORY in commit:
                    return ledger.load(orjson.loads(commit[MEMORY]))
            if most is not None and len(commits) < most:
                break
        return ()

    def _commit(self, commit: Callable[[], None]) -> None:
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            self._told(commit)
        except TargetUnusable as error:
            found = error.__cause__
            if isinstance(found, CommitFailedError) or (
                isinstance(found, DeltaError) and "already exists" in str(found)
            ):
                raise Moved(self._uri) from error
            raise

    def _told(self, ask: Callable[[], _T]) -> _T:
        """Ask, and turn what the libraries raise into the errors of writers."""
        import polars as pl
        from deltalake.exceptions import DeltaError, SchemaMismatchError

        try:
            return ask()
        except (SchemaMismatchError, pl.exceptions.PolarsError) as error:
            raise WriteRefused(f"{self._name} does not take the rows: {error}") from error
        except (DeltaError, OSError, ValueError) as error:
            raise TargetUnusable(f"{self._name} could not be used: {error}") from error


def _properties(memory: tuple[ledger.Record, ...]) -> Any:
    """Return what a commit carries, and that it is not tried again over somebody else's."""
    from deltalake import CommitProperties

    return CommitProperties(custom_metadata={MEMORY: orjson.dumps(ledger.dump(memory)).decode()}, max_commit_retries=0)


def _columns(actions: Any) -> Mapping[str, Any]:
    """Return the add actions of a table by column."""
    import polars as pl

    return pl.DataFrame(actions).to_dict(as_series=False)


def _storage(connection: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Return how S3 is reached, in the words of the library that Delta uses."""
    access = aws_access(connection)
    if access.assume_role is not None or access.anonymous:
        raise TargetUnusable("delta+s3:// takes keys, a profile or the default chain; take `assume_role` out")
    options = {"aws_conditional_put": "etag"}
    if access.region or access.endpoint_url:
        options["aws_region"] = access.region or "us-east-1"
    if access.endpoint_url is not None:
        options["aws_endpoint_url"] = access.endpoint_url
        options["aws_allow_http"] = str(access.endpoint_url.startswith("http://")).lower()
        options["aws_virtual_hosted_style_request"] = str(access.addressing == "virtual").lower()
    if access.credentials is not None:
        keys = access.credentials
        options["aws_access_key_id"] = keys.access_key_id
        options["aws_secret_access_key"] = keys.secret_access_key.get_secret_value()
        if keys.session_token is not None:
            options["aws_session_token"] = keys.session_token.get_secret_value()
    elif access.profile is not None:
        from botocore.session import Session

        found = Session(profile=access.profile).get_credentials().get_frozen_credentials()
        options["aws_access_key_id"], options["aws_secret_access_key"] = found.access_key, found.secret_key
        if found.token:
            options["aws_session_token"] = found.token
    return options
