"""The entries of `connections:` that datasets use: checked at load, and turned into what drivers take in a worker.

One kind per family of URIs: `aws` (s3, delta+s3), `azure` (abfss), `postgresql`, `snowflake`. The first three are those
of the sensors. Local files and DuckDB need none.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from pipelines.datasets.target import Target
from pipelines.datasets.written import TargetUnusable
from sensors.adapters.aws_options import AwsAccess, AwsConnection
from sensors.adapters.azure_account import AzureAccount, AzureConnection, AzureOptions, read_account
from sensors.adapters.sql_options import PostgresConnection

_Model = TypeVar("_Model", bound=BaseModel)


class SnowflakeConnection(BaseModel):
    """An entry of `connections` of kind `snowflake`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["snowflake"] = "snowflake"
    account: str = Field(min_length=1, description="as in the URL of the account: ORGANIZATION-ACCOUNT")
    user: str = Field(min_length=1)
    password: SecretStr | None = None
    private_key: SecretStr | None = Field(None, description="the key in PEM, of key-pair authentication")
    private_key_passphrase: SecretStr | None = None
    token: SecretStr | None = Field(None, description="a programmatic access token, or an OAuth token")
    authenticator: str | None = Field(None, description="where it is not told by what is given, such as oauth")
    role: str | None = None
    warehouse: str | None = None
    host: str | None = Field(None, description="of a proxy or emulator, where it is not the account's own")
    port: int | None = Field(None, ge=1, le=65_535)
    protocol: Literal["https", "http"] = "https"

    @model_validator(mode="after")
    def _one_identity(self) -> "SnowflakeConnection":
        given = [name for name in ("password", "private_key", "token") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("needs one of `private_key`, `password` and `token`")
        return self


MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "aws": AwsConnection,
    "azure": AzureConnection,
    "postgresql": PostgresConnection,
    "snowflake": SnowflakeConnection,
}
KIND_OF: Final[Mapping[str, str]] = {
    "s3": "aws",
    "delta+s3": "aws",
    "abfss": "azure",
    "postgresql": "postgresql",
    "snowflake": "snowflake",
}


def check_connection(target: Target, name: str | None, connection: Mapping[str, Any] | None) -> None:
    """Raise ValueError when a connection does not fit the target, or one is missing; never shows a secret."""
    kind = KIND_OF.get(target.scheme)
    if connection is None:
        if kind == "snowflake":
            raise ValueError("needs a connection of kind snowflake; name one with `connection`")
        return
    if kind is None:
        raise ValueError(f"a {target.scheme}:// dataset needs no connection; take `connection` out")
    if connection.get("kind") != kind:
        raise ValueError(f"the connection `{name}` is of kind {connection.get('kind')!r}; name one of kind {kind}")
    try:
        model = MODELS[kind].model_validate(connection)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"the connection `{name}`: {where + ': ' if where else ''}{said}") from None
    if isinstance(model, AzureConnection):
        account = read_account(AzureOptions(), "it", {"it": connection})
        host = target.place.partition("@")[2]
        if account.service != host:
            raise ValueError(f"the URI is of {host}, but the connection `{name}` of {account.service}")


def aws_access(connection: Mapping[str, Any] | None) -> AwsAccess:
    """Return how AWS is reached; without a connection by the SDK's default chain."""
    if connection is None:
        return AwsAccess()
    shared = _model(AwsConnection, connection)
    return AwsAccess.model_validate(shared.model_dump(exclude={"kind"}, exclude_none=True))


def azure_account(connection: Mapping[str, Any] | None, host: str) -> AzureAccount:
    """Return the account; without a connection the default credential chain signs in."""
    try:
        if connection is None:
            return read_account(AzureOptions(account_url=f"https://{host}"), None, {})
        return read_account(AzureOptions(), "it", {"it": connection})
    except ValueError as error:
        raise TargetUnusable(str(error)) from error


def postgres_url(connection: Mapping[str, Any] | None, target: Target) -> str:
    """Return how the database is reached: by the connection, else as the URI says and libpq finds the rest."""
    if connection is None:
        return f"postgresql://{target.place}"
    return _model(PostgresConnection, connection).written()


def snowflake(connection: Mapping[str, Any] | None) -> SnowflakeConnection:
    """Return how the account is reached."""
    if connection is None:
        raise TargetUnusable("a snowflake:// dataset needs a connection of kind snowflake; name one with `connection`")
    return _model(SnowflakeConnection, connection)


def _model(kind: type[_Model], connection: Mapping[str, Any]) -> _Model:
    try:
        return kind.model_validate(connection)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise TargetUnusable(f"the connection does not fit: {where + ': ' if where else ''}{first['msg']}") from None
