"""Opens the store that a URL names."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from sensors.clock import Clock, SystemClock
from tidegate.store.readers import ReadConnection
from tidegate.store.store import GroupStore, Hints, StoreBackend
from tidegate.store.tx import StoreError
from tidegate.store.writer import Limits

_POSTGRES = ("postgresql", "postgres")
_FORMS = "sqlite:///path, postgresql://user:password@host/database, or memory:"


def _pass_by(name: str) -> None:
    """Do nothing at a named point."""


def open_store(
    url: str,
    *,
    shard: str,
    inline: int = 262_144,
    fail_point: Callable[[str], None] = _pass_by,
    limits: Limits | None = None,
    clock: Clock | None = None,
    on_hint: Callable[[], None] | None = None,
    patience: float = 5.0,
) -> GroupStore:
    """Make (not yet open) the store of a URL. `await store.open()` connects.

    `shard` names this replica to the database. `inline` is how many bytes of an event's data stay in its row.
    `fail_point` is called with `store.begin`, `store.before_commit`, `store.after_commit` on the writer's thread.
    `limits` bound what waits. `clock` is the machine's by default (PostgreSQL uses its own). `on_hint` is called on the
    loop when another replica made work (PostgreSQL only; always poll beside it). `patience` is for how many seconds
    another replica may hold a lock that this one needs (PostgreSQL only). Raises StoreError for other URLs.
    """
    backend = _backend(url, shard, inline, clock or SystemClock(), patience)
    return GroupStore(backend, limits or Limits(), fail_point, _hints(url, shard, on_hint))


def migrate(url: str) -> str:
    """Bring the schema of a URL's store to this service's version and return it. Raises StoreError."""
    from tidegate.store.migrate import HEAD

    backend = _backend(url, "migrate", 0, SystemClock())
    backend.migrate()
    return HEAD


def open_reader(url: str) -> ReadConnection:
    """Open a connection of its own that can only read. Raises StoreError, also for a store that is not there yet."""
    backend = _backend(url, "reader", 0, SystemClock())
    try:
        connection = backend.reader()
    except Exception as error:
        raise StoreError(
            f"The store cannot be read: {error}. Check its place, its rights, and that it runs."
        ) from error
    return connection


def _hints(url: str, shard: str, on_hint: Callable[[], None] | None) -> Hints | None:
    if on_hint is None or urlsplit(url).scheme not in _POSTGRES:
        return None
    from tidegate.store.postgres_hints import PostgresHints

    return PostgresHints(url, shard, on_hint)


def _backend(url: str, shard: str, inline: int, clock: Clock, patience: float = 5.0) -> StoreBackend:
    parts = urlsplit(url)
    if parts.scheme == "memory":
        from tidegate.store.memory import MemoryBackend

        return MemoryBackend(clock)
    if parts.scheme == "sqlite":
        from tidegate.store.sqlite import SqliteBackend, SqliteOptions

        path = unquote(parts.path)[1:]
        if parts.netloc or not path:
            raise StoreError(f"{url!r} names no file; write sqlite:///relative/path or sqlite:////absolute/path.")
        options = dict(parse_qsl(parts.query))
        pages = options.get("max_pages")
        return SqliteBackend(
            SqliteOptions(
                Path(path), inline, float(options.get("busy_timeout", "30")), None if pages is None else int(pages)
            ),
            clock,
        )
    if parts.scheme in _POSTGRES:
        from tidegate.store.postgres import PostgresBackend, PostgresOptions

        return PostgresBackend(PostgresOptions(url, shard, inline, patience))
    raise StoreError(f"{parts.scheme or url!r} is no store that Tidegate knows; write {_FORMS}.")
