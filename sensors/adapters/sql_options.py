"""Where a database is and who asks: a sensor's `url`, or a connection of kind `postgresql` or `sqlite`.

In flow what stands in the configuration, out flows a driver and, where it is asked for, a bell. A URL may hold a
password by reference (`${env:…}`); one that is written out is refused like any secret.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from sensors.adapters.sql_source import Bell, Database
from sensors.clock import Clock
from sensors.kind import SensorContext

_POSTGRES: Final = ("postgresql", "postgres")
_SECRETS: Final = frozenset({"password", "sslpassword"})


class DatabaseUrl(SecretStr):
    """A URL that may hold a password. One without a password is no secret, and may be written out."""

    @staticmethod
    def harmless(text: str) -> bool:
        """Say whether a URL, as it is written, holds no secret."""
        if text.startswith(("env:", "file:")):
            return False
        try:
            parts = urlsplit(text)
            query = dict(parse_qsl(parts.query))
            return parts.password is None and _SECRETS.isdisjoint(query)
        except ValueError:
            return False


class PostgresConnection(BaseModel):
    """An entry of `connections` of kind `postgresql`: a URL, or its parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["postgresql"] = "postgresql"
    url: DatabaseUrl | None = None
    host: str | None = Field(None, min_length=1)
    port: int = Field(5432, ge=1, le=65_535)
    database: str | None = Field(None, min_length=1)
    user: str | None = Field(None, min_length=1)
    password: SecretStr | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    sslrootcert: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.host is None or self.database is None):
            raise ValueError("needs either `url`, or `host` and `database`")
        return self

    def written(self) -> str:
        """Return it as a URL."""
        if self.url is not None:
            return self.url.get_secret_value()
        user = quote(self.user or "", safe="")
        if self.password is not None:
            user += ":" + quote(self.password.get_secret_value(), safe="")
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        options = {"sslmode": self.sslmode, "sslrootcert": self.sslrootcert}
        query = urlencode({name: value for name, value in options.items() if value is not None})
        at = f"{user}@" if user else ""
        return f"postgresql://{at}{host}:{self.port}/{quote(self.database or '', safe='')}" + (
            f"?{query}" if query else ""
        )


class SqliteConnection(BaseModel):
    """An entry of `connections` of kind `sqlite`: the file, relative to the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sqlite"] = "sqlite"
    path: str = Field(min_length=1)

    def written(self) -> str:
        """Return it as a URL."""
        return f"sqlite:///{self.path}"


def url_of(url: DatabaseUrl | None, connection: str | None, context: SensorContext) -> str:
    """Return the URL that a sensor or its connection names. Raises ValueError with a sentence."""
    if url is not None:
        return url.get_secret_value()
    found = context.connections.get(connection or "")
    if found is None:
        known = ", ".join(sorted(context.connections)) or "none"
        raise ValueError(f"there is no connection {connection!r}; add it to `connections` (there: {known})")
    kind = found.get("kind") if isinstance(found, Mapping) else None
    model: type[PostgresConnection | SqliteConnection]
    if kind == "postgresql":
        model = PostgresConnection
    elif kind == "sqlite":
        model = SqliteConnection
    else:
        raise ValueError(f"connection {connection!r} is of kind {kind!r}; name one of kind postgresql or sqlite")
    try:
        return model.model_validate(found).written()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"connection {connection!r}: {where + ': ' if where else ''}{first['msg']}") from None


def check_url(url: str) -> None:
    """Raise ValueError for a URL of no driver; the sentence does not repeat it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(
            "`url` is no URL; write one such as postgresql://user:${env:PGPASSWORD}@host/database"
        ) from None
    if parts.scheme in _POSTGRES:
        if not parts.path.strip("/") or port == 0:
            raise ValueError("`url` names no database; write one such as postgresql://user@host/database")
    elif parts.scheme == "sqlite":
        if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
            raise ValueError("`url` names no file; write one such as sqlite:///shop.db")
    else:
        raise ValueError(
            "`url` is of no database that is known; write postgresql://user@host/database or sqlite:///file.db"
        )


def open_driver(url: str, context: SensorContext, timeout: float) -> Database:
    """Make the driver of a URL; nothing is opened. Raises ValueError."""
    check_url(url)
    if url.startswith("sqlite:"):
        from sensors.adapters.sql_sqlite import Sqlite

        return Sqlite(context.base / Path(url.removeprefix("sqlite:///")), context.name, timeout)
    from sensors.adapters.sql_postgres import Login, Postgres

    return Postgres(Login(url, _place(url), _name(context)), timeout)


def open_bell(url: str, channel: str, context: SensorContext, clock: Clock) -> Bell:
    """Make what listens on a channel. Raises ValueError where there are none."""
    if url.startswith("sqlite:"):
        raise ValueError("`listen`: SQLite tells nobody of new rows; take it out, `every` finds them")
    from sensors.adapters.sql_postgres import Login, Notified

    return Notified(Login(url, _place(url), _name(context)), channel, clock)


def _place(url: str) -> str:
    """Return the URL without user, password and options."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"postgresql://{host}:{parts.port or 5432}/{unquote(parts.path.strip('/'))}"


def _name(context: SensorContext) -> str:
    return f"tidegate/{context.service}/{context.name}"[:63]
