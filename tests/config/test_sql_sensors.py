"""`kind: sql` in a configuration: passwords are references, connections are shared, mistakes are found."""

from pathlib import Path

import pytest

from config.load import load_config
from config.model import ServiceConfig
from config.problems import ConfigProblems
from sensors.adapters.sql_options import url_of
from sensors.kind import SensorContext
from sensors.kinds.sql import SqlOptions
from sensors.testing import VirtualClock

REST = "table: orders, key: id, high: updated_at, start: now"
PASSWORD = "p@ss/w:rd"


def _load(folder: Path, sensor: str, connections: str = "{}", **environ: str) -> ServiceConfig:
    file = folder / "tidegate.yaml"
    file.write_text(f"connections: {connections}\nsensors:\n  orders: {{kind: sql, {sensor}, {REST}}}\n")
    return load_config([file], environ=environ)


def _url(config: ServiceConfig) -> str:
    options = config.sensors["orders"].options
    assert isinstance(options, SqlOptions)
    context = SensorContext("orders", "svc", VirtualClock(), config.base, config.connections)
    return url_of(options.url, options.connection, context)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ('url: "postgresql://reader:${env:PASSWORD}@db/shop"', "postgresql://reader:other@db/shop"),
        ('url: "env:SHOP"', "postgresql://reader:secret@db/shop"),
        ("url: postgresql://reader@db/shop", "postgresql://reader@db/shop"),
        ("url: sqlite:///shop.db", "sqlite:///shop.db"),
    ],
)
def test_a_url_holds_its_password_by_reference(tmp_path: Path, written: str, url: str) -> None:
    """A reference within the URL, one for all of it, or none where there is no password."""
    config = _load(tmp_path, written, PASSWORD="other", SHOP="postgresql://reader:secret@db/shop")

    assert _url(config) == url
    shown = repr(config) + config.sensors["orders"].options.model_dump_json()
    assert "secret" not in shown.replace("secret_", "")
    assert "other@" not in shown


@pytest.mark.parametrize(
    "url",
    ["postgresql://reader:secret@db/shop", "postgresql://reader@db/shop?password=secret", "postgresql://:x@db/shop"],
)
def test_a_password_that_is_written_out_is_refused(tmp_path: Path, url: str) -> None:
    """Like any secret: at its place, without repeating it."""
    with pytest.raises(ConfigProblems) as found:
        _load(tmp_path, f'url: "{url}"')
    (problem,) = found.value.problems

    assert "3:28 sensors.orders.url: a secret is written out" in str(problem)
    assert url not in str(problem)


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (
            '{kind: postgresql, host: db, database: shop, user: reader, password: "env:PW", sslmode: verify-full}',
            "postgresql://reader:p%40ss%2Fw%3Ard@db:5432/shop?sslmode=verify-full",
        ),
        ('{kind: postgresql, url: "postgresql://reader:${env:SAFE}@db/shop"}', "postgresql://reader:x@db/shop"),
        ("{kind: sqlite, path: data/shop.db}", "sqlite:///data/shop.db"),
    ],
)
def test_a_connection_is_shared(tmp_path: Path, connection: str, url: str) -> None:
    """A database named once, by its parts or its URL; whatever is in a password stays in it."""
    assert _url(_load(tmp_path, "connection: shop", f"{{shop: {connection}}}", PW=PASSWORD, SAFE="x")) == url


@pytest.mark.parametrize(
    ("sensor", "connections", "said"),
    [
        ("connection: shop", "{}", "there is no connection 'shop'"),
        ("connection: shop", "{shop: {kind: aws}}", "is of kind 'aws'; name one of kind postgresql or sqlite"),
        ("connection: shop", "{shop: {kind: postgresql, host: db}}", "needs either `url`, or `host` and `database`"),
        ("url: mysql://db/shop", "{}", "`url` is of no database that is known"),
        ("url: postgresql://db", "{}", "`url` names no database"),
        ("url: sqlite:///a.db, listen: orders", "{}", "SQLite tells nobody of new rows"),
        ("url: sqlite:///a.db, columns: [id]", "{}", "`columns`: add updated_at, which the sensor needs"),
        ("url: sqlite:///a.db, overlap: 5 minutes", "{}", "`5 minutes` does not fit; write a duration such as"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, sensor: str, connections: str, said: str) -> None:
    """What cannot work is found by the check, before anything connects."""
    with pytest.raises(ConfigProblems) as found:
        _load(tmp_path, sensor, connections)

    assert said.replace("; ", ", ") in str(found.value).replace("; ", ", ")
