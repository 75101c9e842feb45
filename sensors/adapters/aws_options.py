"""The options that say where a service of AWS is, and who asks: a sensor's own, and those of its connection.

In flow what stands in the configuration, out flows one `AwsAccess`. What is given nowhere comes from the SDK's default
chain: environment, profile, container, instance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from sensors.kind import SensorContext
from sensors.units import Duration

_WHO = ("credentials", "profile", "anonymous")


class AccessKeys(BaseModel):
    """Keys written into the configuration by reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    access_key_id: str = Field(min_length=1)
    secret_access_key: SecretStr = Field(min_length=1)
    session_token: SecretStr | None = None


class AssumeRole(BaseModel):
    """A role to take on with the credentials that were found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role_arn: str = Field(pattern=r"^arn:[^\s]+$", description="such as arn:aws:iam::123456789012:role/reader")
    external_id: str | None = Field(None, min_length=2, max_length=1224)
    session_name: str | None = Field(
        None, pattern=r"^[\w+=,.@-]{2,64}$", description="as it appears in CloudTrail; by default tidegate-SERVICE"
    )
    duration: Duration = Field(3600.0, ge=900, le=43_200, description="how long each session lasts; renewed in time")
    endpoint_url: str | None = Field(None, description="of the token service (STS), where it is not that of AWS")


class AwsAccess(BaseModel):
    """Where a service is and who asks. What is not given comes from the SDK's default chain."""

    region: str | None = Field(None, pattern=r"^[a-z0-9-]{1,64}$")
    endpoint_url: str | None = Field(None, description="of any server that speaks S3, such as https://minio.lan:9000")
    addressing: Literal["auto", "path", "virtual"] | None = Field(
        None, description="whether the bucket stands in the path or in the host name; auto: path for an endpoint_url"
    )
    credentials: AccessKeys | None = Field(None, description="keys; by default the chain environment, profile, role")
    profile: str | None = Field(None, min_length=1, description="a profile of the AWS configuration files")
    anonymous: bool | None = Field(None, description="ask without signing, for public buckets")
    assume_role: AssumeRole | None = None
    ca_bundle: str | None = Field(None, description="certificates to trust, relative to the configuration file")

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("must be a URL such as https://minio.lan:9000")
            if parts.username or parts.password:
                raise ValueError("must not hold a password; keys go into `credentials`")
        return value

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        given = [name for name in _WHO if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` exclude each other")
        if self.anonymous and self.assume_role:
            raise ValueError("`anonymous` and `assume_role` exclude each other: only somebody can take on a role")
        return self


class AwsConnection(AwsAccess):
    """An entry of `connections` of kind `aws`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["aws"] = "aws"


def access_of(own: AwsAccess, connection: str | None, context: SensorContext) -> AwsAccess:
    """Return a sensor's own options, completed by the connection that it names. Raises ValueError with a sentence.

    An identity (keys, profile or anonymous) replaces the connection's identity as a whole.
    """
    mine = {name: value for name in AwsAccess.model_fields if (value := getattr(own, name)) is not None}
    theirs: dict[str, Any] = {}
    if connection is not None:
        shared = _connection(connection, context.connections)
        theirs = {name: value for name in AwsAccess.model_fields if (value := getattr(shared, name)) is not None}
        if any(name in mine for name in _WHO):
            theirs = {name: value for name, value in theirs.items() if name not in _WHO}
    access = AwsAccess.model_validate({**theirs, **mine})
    update: dict[str, Any] = {}
    if access.ca_bundle is not None:
        update["ca_bundle"] = str(context.base / Path(access.ca_bundle))
    role = access.assume_role
    if role is not None and role.session_name is None:
        name = "".join(c if c.isascii() and c.isalnum() else "-" for c in context.service)
        update["assume_role"] = role.model_copy(update={"session_name": f"tidegate-{name}"[:64]})
    return access.model_copy(update=update)


def _connection(name: str, connections: Mapping[str, Any]) -> AwsConnection:
    found = connections.get(name)
    if found is None:
        known = ", ".join(sorted(connections)) or "none"
        raise ValueError(f"there is no connection {name!r}; add it to `connections` (there: {known})")
    kind = found.get("kind") if isinstance(found, Mapping) else None
    if kind != "aws":
        raise ValueError(f"connection {name!r} is of kind {kind!r}; name one of kind aws")
    try:
        return AwsConnection.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"connection {name!r}: {where + ': ' if where else ''}{first['msg']}") from None
