"""The service with one thing broken on purpose, to see whether the checker notices: `_sabotage NAME CONFIG`.

The product has no switch for this: the named functions are replaced in this process before it serves. Where the broken
order leaves a gap between two durable steps, the gap is made a few milliseconds wide, as a slow disk would.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GAP = 0.03


def acknowledge_before_commit() -> None:
    """Resolve the callers' futures when the transaction's statements ran, and commit after that."""
    from tidegate.store import writer

    run = writer._run

    def resolve_early(tx: Any, part: Sequence[Any]) -> list[Any]:
        results = run(tx, part)
        for entry, result in zip(part, results, strict=True):
            future = entry.future
            future.get_loop().call_soon_threadsafe(_resolve, future, result)
        time.sleep(GAP)
        return results

    writer._run = resolve_early


def _resolve(future: Any, result: Any) -> None:
    if not future.done():
        future.set_result(result)


def dedup_row_apart() -> None:
    """Commit the dedup rows in a transaction of their own, before the events."""
    from tidegate.store.sql_events import EventsSql

    insert = EventsSql.new_event_ids

    def insert_apart(self: Any, ids: Any) -> Any:
        known = insert(self, ids)
        _next_transaction(self)
        return known

    EventsSql.new_event_ids = insert_apart  # type: ignore[method-assign]


def run_after_commit() -> None:
    """Commit events and decisions first, then insert the runs that they started."""
    from tidegate.store.sql_runs import RunsSql
    from tidegate.store.sqlite import SqliteBackend

    insert = RunsSql.insert_runs
    commit = SqliteBackend.commit
    late: list[tuple[Any, Any, Any]] = []

    def insert_later(self: Any, runs: Any, tasks: Any) -> None:
        late.append((self, runs, tasks))

    def commit_twice(self: Any) -> None:
        commit(self)
        if late:
            time.sleep(GAP)
            self._connection.execute("BEGIN IMMEDIATE")
            while late:
                insert(*late.pop(0))
            commit(self)

    RunsSql.insert_runs = insert_later  # type: ignore[method-assign]
    SqliteBackend.commit = commit_twice  # type: ignore[method-assign]


def cursor_before_commit() -> None:
    """Commit cursors and memories first, then the events that they stand for."""
    from tidegate import ingest

    write = ingest._write_positions
    call = ingest.Ingest.__call__

    def positions_first(self: Any, tx: Any, items: Any) -> Any:
        for item in items:
            write(tx, item, tx.now())
        _next_transaction(tx)
        return call(self, tx, items)

    ingest.Ingest.__call__ = positions_first  # type: ignore[method-assign]
    ingest._write_positions = _write_nothing


def _write_nothing(tx: Any, item: Any, now: int) -> tuple[()]:
    """Leave out what was written already."""
    return ()


def synchronous_off() -> None:
    """Let SQLite return from COMMIT before anything was synced."""
    from tidegate.store.sqlite import SqliteBackend

    use = SqliteBackend._use

    def use_unsynced(self: Any, connection: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        use(self, connection)

    SqliteBackend._use = use_unsynced  # type: ignore[method-assign]


def stale_writes_applied() -> None:
    """Take every step of a run, whoever holds it by now."""
    from tidegate.store.sql_dispatch import DispatchSql

    fences = DispatchSql.fences

    def any_fence(self: Any, runs: Any) -> Any:
        return {run: _Equal() for run in fences(self, runs)}

    DispatchSql.fences = any_fence  # type: ignore[method-assign]


class _Equal:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def _next_transaction(tx: Any) -> None:
    """Commit what was written so far, and go on in another transaction."""
    connection = tx._s.connection
    connection.execute("COMMIT")
    time.sleep(GAP)
    connection.execute("BEGIN")


SABOTAGES: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        acknowledge_before_commit,
        dedup_row_apart,
        run_after_commit,
        cursor_before_commit,
        synchronous_off,
        stale_writes_applied,
    )
}


def main() -> int:
    """Break one thing and serve."""
    name, config = sys.argv[1:]
    SABOTAGES[name]()
    from tidegate.serve import serve

    return serve([Path(config)])


if __name__ == "__main__":
    sys.exit(main())
