"""Where a dataset lies: a URI becomes a Target with its OpenLineage name. Pure; no URI or name holds a secret.

    duckdb://warehouse.duckdb/main.orders          a table of a DuckDB file (the schema may be left out: `main`)
    postgresql://host:5432/shop/public.orders      a table of PostgreSQL (port, and schema `public`, may be left out)
    snowflake://org-acct/analytics.public.orders   a table of Snowflake
    parquet://out/orders.parquet                   a file; also csv://, json://, jsonl://
    parquet://out/orders/                          a folder of files with a manifest (the slash at the end says so)
    s3://bucket/out/orders.parquet                 an object, or with a slash at the end a folder
    abfss://raw@account/out/orders.parquet         a file of Azure Data Lake, or a folder
    delta://out/orders, delta+s3://bucket/orders   a Delta table

Local paths are relative to the service's base folder; a third slash makes them absolute (`parquet:///data/o.parquet`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

FORMATS: Final = ("parquet", "csv", "json", "jsonl")
SCHEMES: Final = ("duckdb", "postgresql", "snowflake", *FORMATS, "s3", "abfss", "delta", "delta+s3")
_ENDINGS: Final = {"parquet": "parquet", "csv": "csv", "json": "json", "jsonl": "jsonl", "ndjson": "jsonl"}
_HINT: Final = (
    "write one such as duckdb://FILE/SCHEMA.TABLE, parquet://FILE, csv://FILE, s3://BUCKET/KEY, abfss://FS@ACCOUNT/PATH,"
    " postgresql://HOST/DATABASE/SCHEMA.TABLE, snowflake://ACCOUNT/DATABASE.SCHEMA.TABLE or delta://FOLDER"
)
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_AZURE: Final = ".dfs.core.windows.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One dataset. `namespace` and `name` are OpenLineage's.

    `place` is what holds it (the DuckDB file, `host:port/database`, account, bucket, `filesystem@account`; empty for
    local files), `path` its file or key, with a slash at the end for a folder; `schema` and `table` are empty for
    files. `format` is how files are written.
    """

    scheme: str
    namespace: str
    name: str
    place: str = ""
    path: str = ""
    schema: str = ""
    table: str = ""
    format: str = ""

    @property
    def folder(self) -> bool:
        """Say whether it is a folder of files with a manifest."""
        return self.path.endswith("/")

    @property
    def label(self) -> str:
        """Return a short name for queries over it: the table's, or the file's without its ending."""
        return self.table or self.path.rstrip("/").rpartition("/")[2].partition(".")[0]


def parse_target(uri: str, base: Path) -> Target:
    """Read a dataset's URI; ValueError says what is wrong with it and never repeats a password."""
    scheme, found, rest = uri.partition("://")
    if not found or scheme not in SCHEMES:
        raise ValueError(f"{_shown(uri)} is no dataset; {_HINT}")
    if "\x00" in rest or "?" in rest or "#" in rest:
        raise ValueError(f"{_shown(uri)}: the path holds a character that is not allowed (?, # or NUL)")
    if scheme == "duckdb":
        return _duckdb(uri, rest, base)
    if scheme == "postgresql":
        return _postgresql(uri)
    if scheme == "snowflake":
        return _snowflake(uri, rest)
    if scheme in ("s3", "delta+s3"):
        return _s3(uri, scheme, rest)
    if scheme == "abfss":
        return _abfss(uri, rest)
    if not rest.strip("/"):
        raise ValueError(f"{_shown(uri)} names no file")
    path = str((base / rest).absolute())
    if scheme == "delta":
        return Target(scheme=scheme, namespace="file", name=path, path=f"{path}/", format="delta")
    slash = "/" if rest.endswith("/") else ""
    if slash and scheme != "parquet":
        raise ValueError(f"{_shown(uri)} names a folder, which holds Parquet files; write parquet://, or name a file")
    return Target(scheme=scheme, namespace="file", name=path, path=path + slash, format=scheme)


def _duckdb(uri: str, rest: str, base: Path) -> Target:
    file, _, last = rest.rpartition("/")
    if not file or not last:
        raise ValueError(f"{_shown(uri)} names no table; write duckdb://FILE/SCHEMA.TABLE")
    path = str((base / file).absolute())
    schema, table = _table(uri, last, "main")
    return Target(
        scheme="duckdb", namespace="duckdb", name=f"{path}/{schema}.{table}", place=path, schema=schema, table=table
    )


def _postgresql(uri: str) -> Target:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or 5432
    except ValueError:
        raise ValueError(f"{_shown(uri)} is no URL; write postgresql://HOST:PORT/DATABASE/SCHEMA.TABLE") from None
    if parts.password is not None:
        raise ValueError(f"{_shown(uri)} holds a password; name a `connection` of kind postgresql instead")
    database, _, last = parts.path.strip("/").partition("/")
    if not host or not database or not last:
        raise ValueError(f"{_shown(uri)} names no table; write postgresql://HOST:PORT/DATABASE/SCHEMA.TABLE")
    schema, table = _table(uri, last, "public")
    host = f"[{host}]" if ":" in host else host
    user = f"{parts.username}@" if parts.username else ""
    return Target(
        scheme="postgresql",
        namespace=f"postgres://{host}:{port}",
        name=f"{database}.{schema}.{table}",
        place=f"{user}{host}:{port}/{database}",
        schema=schema,
        table=table,
    )


def _snowflake(uri: str, rest: str) -> Target:
    account, _, last = rest.partition("/")
    parts = last.split(".")
    if len(parts) == 2:
        parts.insert(1, "public")
    if not account or "@" in account or len(parts) != 3 or not all(parts):
        raise ValueError(f"{_shown(uri)}: write snowflake://ORGANIZATION-ACCOUNT/DATABASE.SCHEMA.TABLE")
    return Target(
        scheme="snowflake",
        namespace=f"snowflake://{account}",
        name=".".join(parts),
        place=f"{account}/{parts[0]}",
        schema=parts[1],
        table=parts[2],
    )


def _s3(uri: str, scheme: str, rest: str) -> Target:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or not key.strip("/"):
        raise ValueError(f"{_shown(uri)} names no object; write {scheme}://BUCKET/KEY")
    delta = scheme == "delta+s3"
    return Target(
        scheme=scheme,
        namespace=f"s3://{bucket}",
        name=key.strip("/"),
        place=bucket,
        path=f"{key.strip('/')}/" if delta else key.lstrip("/"),
        format="delta" if delta else _format(uri, key),
    )


def _abfss(uri: str, rest: str) -> Target:
    where, _, path = rest.partition("/")
    filesystem, at, account = where.partition("@")
    if not at or not filesystem or not account or ":" in filesystem or not path.strip("/"):
        raise ValueError(f"{_shown(uri)} names no file; write abfss://FILESYSTEM@ACCOUNT/PATH")
    host = account if "." in account else account + _AZURE
    return Target(
        scheme="abfss",
        namespace=f"abfss://{filesystem}@{host}",
        name=path.strip("/"),
        place=f"{filesystem}@{host}",
        path=path.lstrip("/"),
        format=_format(uri, path),
    )


def _format(uri: str, path: str) -> str:
    """Return the format of an object by its name's ending; folders hold Parquet."""
    if path.endswith("/"):
        return "parquet"
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    if ending not in _ENDINGS:
        raise ValueError(
            f"{_shown(uri)}: the name's ending tells no format; end it in .parquet, .csv, .json or .jsonl, or in a "
            "slash for a folder of Parquet files"
        )
    return _ENDINGS[ending]


def _table(uri: str, text: str, default: str) -> tuple[str, str]:
    schema, dot, name = text.partition(".")
    if not dot:
        schema, name = default, schema
    if not schema or not name or "." in name or "/" in text:
        raise ValueError(f"{_shown(uri)}: {text!r} is not SCHEMA.TABLE")
    return schema, name


def _shown(uri: str) -> str:
    """Return the URI for a message: without what may be a password, and not at any length."""
    return repr(re.sub(r"(?<=://)[^/@]*:[^/@]*@", "…@", uri)[:200])
