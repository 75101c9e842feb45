"""How Kafka's brokers are reached and who we are to them: options that reading and producing share.

In flow what stands in the configuration, out flow frozen models; nothing here connects or reads a file.
"""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}", re.ASCII)


class Tls(BaseModel):
    """Encryption, and certificates where the public ones do not do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: str | None = Field(None, description="certificates to trust, relative to the configuration file")
    cert: str | None = Field(None, description="our certificate, for brokers that ask for one")
    key: str | None = Field(None, description="its key")
    key_password: SecretStr | None = None
    check_hostname: bool = Field(True, description="whether the broker's certificate must name the host")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("`cert` and `key` belong together; give both")
        return self


class OAuth(BaseModel):
    """Client credentials that are exchanged for a bearer token, and again before it ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: str = Field(pattern=r"^https?://[^\s]+$")
    client_id: str = Field(min_length=1)
    client_secret: SecretStr
    scope: str | None = None


class Sasl(BaseModel):
    """Who we are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    username: str | None = Field(None, min_length=1)
    password: SecretStr | None = None
    oauth: OAuth | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mechanism == "OAUTHBEARER":
            if self.oauth is None or self.username or self.password:
                raise ValueError("OAUTHBEARER takes `oauth: {token_url, client_id, client_secret}` and nothing else")
        elif self.username is None or self.password is None or self.oauth is not None:
            raise ValueError(f"{self.mechanism} takes `username` and `password`")
        return self


def encryption(tls: Tls | bool) -> Tls | None:
    """Return how the connection is encrypted; None when it is not."""
    if isinstance(tls, Tls):
        return tls
    return Tls() if tls else None


def brokers_only(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the brokers. Raises ValueError for one that is no `host:port`."""
    for broker in value:
        if not _BROKER.fullmatch(broker):
            raise ValueError(f"{broker!r} is no broker; write host:port, such as kafka-1:9092")
    return value
