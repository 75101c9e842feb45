"""URIs of datasets: what they name, in OpenLineage's words, and what is refused."""

from pathlib import Path

import pytest

from pipelines.datasets.catalog import Catalog
from pipelines.datasets.definition import DatasetDef
from pipelines.datasets.target import parse_target

BASE = Path("/base")


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("duckdb://a/x.duckdb/t", "duckdb", "/base/a/x.duckdb/main.t"),
        ("duckdb:///a/x.duckdb/s.t", "duckdb", "/a/x.duckdb/s.t"),
        ("postgresql://db.lan/shop/orders", "postgres://db.lan:5432", "shop.public.orders"),
        ("postgresql://loader@db.lan:6000/shop/sales.orders", "postgres://db.lan:6000", "shop.sales.orders"),
        ("snowflake://org-acct/db.public.orders", "snowflake://org-acct", "db.public.orders"),
        ("snowflake://org-acct/db.orders", "snowflake://org-acct", "db.public.orders"),
        ("parquet://a/x.parquet", "file", "/base/a/x.parquet"),
        ("csv:///a/x.csv", "file", "/a/x.csv"),
        ("parquet://a/x/", "file", "/base/a/x"),
        ("s3://lake/a/x.parquet", "s3://lake", "a/x.parquet"),
        ("s3://lake/a/x/", "s3://lake", "a/x/"),
        ("abfss://raw@acct/a/x.csv", "abfss://raw@acct.dfs.core.windows.net", "a/x.csv"),
        ("abfss://raw@acct.dfs.core.windows.net/a.jsonl", "abfss://raw@acct.dfs.core.windows.net", "a.jsonl"),
        ("delta://a/x", "file", "/base/a/x"),
        ("delta+s3://lake/a/x", "s3://lake", "a/x"),
    ],
)
def test_names_are_those_of_openlineage(uri: str, namespace: str, name: str) -> None:
    """A URI becomes namespace and name; paths are relative to the base folder unless a third slash stands there."""
    target = parse_target(uri, BASE)

    assert (target.namespace, target.name.rstrip("/")) == (namespace, name.rstrip("/"))
    assert "loader" not in target.namespace + target.name


@pytest.mark.parametrize(
    "uri",
    [
        "x.csv",
        "ftp://b/x",
        "csv://",
        "csv://a/",
        "duckdb://x.duckdb",
        "duckdb://x/a.b.c",
        "duckdb://x/.t",
        "csv://a?b",
        "csv://a\x00",
        "s3://b",
        "s3://b/x.xls",
        "abfss://raw/x.csv",
        "postgresql://host/db",
        "postgresql://host:no/db/t",
        "snowflake://acct/t",
        "snowflake://user:pw@acct/a.b.c",
    ],
)
def test_what_is_no_dataset_is_refused(uri: str) -> None:
    """A URI that cannot be is a ValueError that says what would be right."""
    with pytest.raises(ValueError, match=r"write |names |not |password|allowed|end it"):
        parse_target(uri, BASE)


@pytest.mark.parametrize("uri", ["postgresql://loader:hunter2@host/db/t", "snowflake://loader:hunter2@acct/a.b.c"])
def test_a_password_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    """Secrets belong to connections; one in a URI is refused without saying it."""
    with pytest.raises(ValueError, match=r"password|write") as raised:
        parse_target(uri, BASE)

    assert "hunter2" not in str(raised.value)


def test_the_catalog_binds_names_and_uris() -> None:
    """A configured name brings its connection and how it is written; a task's words win; a reload counts at once."""
    wh = {"kind": "postgresql", "host": "h", "database": "shop", "password": "hunter2"}
    daily = DatasetDef(
        name="daily", uri="postgresql://h/shop/daily", connection="wh", mode="merge", key=("id",), schema="strict"
    )
    catalog = Catalog(BASE, {"daily": daily}, {"wh": wh})
    bound = catalog.bind("daily")

    assert (bound.target.name, bound.connection) == ("shop.public.daily", wh)
    assert (bound.how().mode, bound.how().key, bound.how().schema) == ("merge", ("id",), "strict")
    assert bound.how("append").mode == "append"
    assert "hunter2" not in repr(bound)
    assert catalog.named(bound.target.namespace, bound.target.name) == "daily"
    free, grown = catalog.bind("csv://x.csv").how(), catalog.bind("duckdb://x/t").how("append")
    assert (free.mode, free.schema, grown.schema) == ("replace", "free", "evolve")
    with pytest.raises(ValueError, match="did you mean"):
        catalog.bind("dayly")
    catalog.update({}, {})
    with pytest.raises(ValueError, match="no dataset 'daily'"):
        catalog.bind("daily")


@pytest.mark.parametrize(
    ("uri", "connection", "said"),
    [
        ("csv://x.csv", {"kind": "aws"}, "needs no connection"),
        ("s3://lake/x.csv", {"kind": "azure", "account_url": "https://a.dfs.core.windows.net"}, "name one of kind aws"),
        ("snowflake://a/d.t", None, "needs a connection"),
        ("snowflake://a/d.t", {"kind": "snowflake", "account": "a", "user": "u"}, "private_key"),
        (
            "abfss://f@other/x.csv",
            {"kind": "azure", "account_url": "https://a.dfs.core.windows.net"},
            "URI is of other",
        ),
    ],
)
def test_a_connection_fits_its_dataset(uri: str, connection: dict[str, str] | None, said: str) -> None:
    """A connection of another kind, of another account, or without what it needs is refused by name."""
    entry = DatasetDef(name="d", uri=uri, connection=None if connection is None else "c")

    with pytest.raises(ValueError, match=said):
        Catalog(BASE, {"d": entry}, {"c": connection}).bind("d")
