"""Asks the store of a dataset: queries that only read, over DuckDB, PostgreSQL, Snowflake, Parquet and CSV files.

In flow a dataset's URI, the connection it names (plain data with its secrets filled in) and a query; out flow rows.
Runs in worker processes and blocks. Nothing here can write: DuckDB files are opened for reading, PostgreSQL gets a
read-only transaction with a time limit. A query over a file sees it as the table `data`; one over a table finds what
lies beside it without naming the schema.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipelines.datasets.written import TargetBusy, TargetUnusable

if TYPE_CHECKING:
    import duckdb

WAIT = 20.0
READERS: Mapping[str, str] = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json", "jsonl": "read_json"}
POSTGRES = ("postgresql", "postgres")
LOCAL = ("duckdb", *READERS)
ASKED = (*LOCAL, "postgresql", "snowflake")
_FEW = 100_000  # rows of a table that are read into memory at a time

Connection = Mapping[str, Any] | None


def scheme_of(uri: str) -> str:
    """Return what a URI names, in lower case."""
    return uri.partition("://")[0].lower()


def refuse_unasked(uri: str) -> None:
    """Raise ValueError for what cannot be asked."""
    if "://" not in uri or scheme_of(uri) not in (*ASKED, *POSTGRES):
        raise ValueError(f"{shown(uri)} cannot be queried; what can be is {', '.join(f'{name}://' for name in ASKED)}")


def table_of(uri: str) -> str:
    """Return the quoted name of a dataset's table in a query on its own store. Raises ValueError."""
    refuse_unasked(uri)
    scheme = scheme_of(uri)
    if scheme in READERS:
        return "data"
    last = unquote(uri.partition("://")[2].rpartition("/")[2])
    parts = last.split(".")
    most = 3 if scheme == "snowflake" else 2
    if not all(parts) or len(parts) > most:
        raise ValueError(f"{shown(uri)} names no table; write one such as …/{'DATABASE.' * (most - 2)}SCHEMA.TABLE")
    if scheme == "snowflake":  # names without quotes are upper case there, as people write them
        return ".".join(part if part.isidentifier() else _quoted(part) for part in parts)
    schema = "main" if scheme == "duckdb" else "public"
    return ".".join(_quoted(part) for part in ([schema, *parts] if len(parts) == 1 else parts))


def schema_of_uri(uri: str, default: str) -> str:
    """Return the schema that a dataset's table lies in."""
    parts = unquote(uri.partition("://")[2].rpartition("/")[2]).split(".")
    return parts[-2] if len(parts) > 1 else default


def file_of(uri: str, base: Path) -> Path:
    """Return the file of a dataset on local disk."""
    rest = uri.partition("://")[2]
    return (base / (rest.rpartition("/")[0] if scheme_of(uri) == "duckdb" else rest)).absolute()


def ask(uri: str, connection: Connection, query: str, base: Path, seconds: float = 300.0) -> Sequence[Sequence[Any]]:
    """Return the rows of a query on a dataset's store. Raises TargetBusy or TargetUnusable."""
    refuse_unasked(uri)
    scheme = scheme_of(uri)
    if scheme in LOCAL:
        with relation_store(uri, base) as store:
            try:
                return store.execute(query).fetchall()
            except _duckdb_error() as error:
                raise TargetUnusable(f"the query on {uri} failed: {_first_line(error)}") from error
    asking = _postgres if scheme in POSTGRES else _snowflake
    with asking(uri, connection, seconds) as cursor:
        try:
            cursor.execute(query)
            return list(cursor.fetchall())
        except Exception as error:  # drivers have many kinds; each is told in its own words
            raise TargetUnusable(f"the query on {shown(uri)} failed: {_first_line(error)}") from error


@contextmanager
def relation_store(
    uri: str, base: Path, sleep: Callable[[float], None] = time.sleep
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open a DuckDB that reads a dataset: its own file, or one in memory that sees a file as `data`."""
    import duckdb

    file = file_of(uri, base)
    if not file.exists():
        raise TargetUnusable(f"there is no {file}; nothing was written there yet")
    if scheme_of(uri) == "duckdb":
        store = _open(file, sleep)
        schema = schema_of_uri(uri, "main")
        if schema != "main":
            store.execute(f"set search_path = {_literal(f'{_quoted(schema)},main')}")
    else:
        store = duckdb.connect()
        store.execute(f"create view data as from {READERS[scheme_of(uri)]}({_literal(str(file))})")
    try:
        yield store
    finally:
        store.close()


def _open(path: Path, sleep: Callable[[float], None]) -> "duckdb.DuckDBPyConnection":
    """Open a file for reading, waiting for a process that writes it."""
    import duckdb

    waited, pause = 0.0, 0.01
    while True:
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.ConnectionException:
            return duckdb.connect(str(path))  # this process has it open for writing, which is as good
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise TargetUnusable(f"{path} cannot be opened: {error}") from error
            if waited >= WAIT:
                raise TargetBusy(f"{path} was in use by another process for {WAIT:.0f} s: {error}") from error
            sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 0.25)


@contextmanager
def _postgres(uri: str, connection: Connection, seconds: float) -> Iterator[Any]:
    import psycopg

    try:
        with (
            psycopg.connect(postgres_conninfo(uri, connection), connect_timeout=10) as link,
            link.cursor() as cursor,
        ):
            cursor.execute("set transaction read only")
            cursor.execute(
                "select set_config('statement_timeout', %s, true), set_config('search_path', %s, true)",
                [str(int(seconds * 1000)), f"{_quoted(schema_of_uri(uri, 'public'))}, public"],
            )
            yield cursor
            link.rollback()
    except psycopg.OperationalError as error:
        raise TargetBusy(f"{shown(uri)} cannot be reached: {_first_line(error)}") from error


def postgres_conninfo(uri: str, connection: Connection) -> str:
    """Return how PostgreSQL is reached: the connection's `url`, or its parts over those of the URI."""
    from psycopg.conninfo import make_conninfo

    given = {key: value for key, value in (connection or {}).items() if key != "kind"}
    for key in ("url", "dsn"):
        if key in given:
            return str(given[key])
    parts = urlsplit(uri)
    known: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    known["dbname"] = parts.path.strip("/").rpartition("/")[0] or None
    if "database" in given:
        given["dbname"] = given.pop("database")
    return make_conninfo("", **{key: value for key, value in {**known, **given}.items() if value is not None})


@contextmanager
def _snowflake(uri: str, connection: Connection, seconds: float) -> Iterator[Any]:
    try:
        import snowflake.connector
    except ModuleNotFoundError as error:
        raise TargetUnusable("snowflake:// needs the package of the extra; install `tidegate[snowflake]`") from error

    options = {key: value for key, value in (connection or {}).items() if key != "kind"}
    account, _, name = uri.partition("://")[2].partition("/")
    options.setdefault("account", account)
    parts = name.split(".")
    if len(parts) == 3:
        options.setdefault("database", parts[0].upper())
        options.setdefault("schema", parts[1].upper())
    if "token" in options:
        options.setdefault("authenticator", "PROGRAMMATIC_ACCESS_TOKEN")
    if "private_key" in options:
        options["private_key"] = _der(str(options["private_key"]), options.pop("private_key_passphrase", None))
    try:
        link = snowflake.connector.connect(
            login_timeout=30, network_timeout=int(seconds), session_parameters={"TIMEZONE": "UTC"}, **options
        )
    except snowflake.connector.errors.Error as error:
        raise TargetBusy(f"{shown(uri)} cannot be reached: {_first_line(error)}") from error
    try:
        with link.cursor() as cursor:
            yield cursor
    finally:
        link.close()


def _der(pem: str, passphrase: str | None) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    try:
        key = s.load_pem_private_key(pem.encode(), None if passphrase is None else passphrase.encode())
    except (TypeError, ValueError) as error:
        raise TargetUnusable(f"the connection's private_key cannot be read: {error}") from error
    return key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption())


@contextmanager
def opened(uri: str, connection: Connection, base: Path) -> Iterator[Any]:
    """Give a dataset as what checks judge: a DuckDB relation, or a Polars frame of a table that lies elsewhere."""
    refuse_unasked(uri)
    if scheme_of(uri) in LOCAL:
        with relation_store(uri, base) as store:
            try:
                found = store.sql(f"from {table_of(uri)}")
            except _duckdb_error() as error:
                raise TargetUnusable(f"{uri} cannot be read: {_first_line(error)}") from error
            yield found
        return
    yield _whole(uri, connection)


def _whole(uri: str, connection: Connection) -> Any:
    import polars as pl

    asking = _postgres if scheme_of(uri) in POSTGRES else _snowflake
    with asking(uri, connection, 3_600.0) as cursor:
        try:
            cursor.execute(f"select * from {table_of(uri)}")  # noqa: S608 - names are quoted
            names = [column[0] for column in cursor.description]
            parts = []
            while rows := cursor.fetchmany(_FEW):
                parts.append(pl.DataFrame(list(rows), schema=names, orient="row", infer_schema_length=None))
        except Exception as error:  # drivers have many kinds; each is told in its own words
            raise TargetUnusable(f"{shown(uri)} cannot be read: {_first_line(error)}") from error
    return pl.concat(parts, how="vertical_relaxed") if parts else pl.DataFrame(schema=dict.fromkeys(names, pl.Null))


def shown(uri: str) -> str:
    """Return a URI without user and password."""
    head, found, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return f"{head}{found}{place.rpartition('@')[2]}{slash}{path}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error
