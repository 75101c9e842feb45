"""The options that say how an API is asked: who asks, how its pages follow each other, and how far back is looked.

Secrets are references that are resolved before they get here, held as SecretStr; texts into which secrets may have been
put (headers, query, bodies) are shown nowhere.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from sensors.adapters.high_water import Overlap
from sensors.units import format_duration, parse_duration

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset(
    {"connection", "content-length", "host", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
)
_OURS = frozenset({"accept-encoding", "if-none-match", "if-modified-since"})
_URL = re.compile(r"https?://[^/\s?#${}\\]+(?:[/?#]\S.*|[/?#])?", re.IGNORECASE | re.DOTALL)


def _masked(value: Any) -> Any:
    """Show only which names are there."""
    return dict.fromkeys(value, "**********") if isinstance(value, Mapping) else "**********"


def _place(url: str) -> str:
    """Show where a URL leads, not what is asked there."""
    return re.split(r"[?#]|\$\{\{", url, maxsplit=1)[0]


def _header_names(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in value:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is no name of a header")
        if name.lower() in _FRAMING | _OURS:
            raise ValueError(f"`{name}` is set by the service itself; leave it out")
    return value


def check_url(value: str) -> str:
    """Return a URL whose scheme and host are plain text and which holds no password. Raises ValueError."""
    if not _URL.fullmatch(value):
        raise ValueError("must be a URL such as https://api.example.com/invoices, with its host written out")
    parts = urlsplit(value.partition("${{")[0])
    try:
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("must be a URL such as https://api.example.com/invoices")
    if not (parts.hostname or "").isascii():
        raise ValueError("must name its host in ASCII; an international name begins with xn--")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a password; write it as `auth`")
    return value


_HIDDEN = PlainSerializer(_masked, return_type=Any)
Url = Annotated[str, AfterValidator(check_url), PlainSerializer(_place, return_type=str)]
Headers = Annotated[Mapping[str, Any], AfterValidator(_header_names), _HIDDEN]
Values = Annotated[Mapping[str, Any], _HIDDEN]
Hidden = Annotated[Any, _HIDDEN]


def _overlap(value: Any) -> Overlap:
    if isinstance(value, Overlap):
        return value
    if not isinstance(value, bool) and isinstance(value, int | float) and value >= 0:
        return Overlap(seconds=0.0, amount=0) if value == 0 else Overlap(amount=value)
    if isinstance(value, str):
        return Overlap(seconds=parse_duration(value))
    raise ValueError("write a duration such as 10m where `high` gives moments, a number where it gives numbers")


def _shown(value: Overlap) -> str | float:
    return value.amount if value.amount is not None else format_duration(value.seconds or 0.0)


OverlapOption = Annotated[
    Overlap,
    BeforeValidator(_overlap),
    PlainSerializer(_shown, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "description": "a duration such as 10m, or a number"}),
]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# -- who asks ---------------------------------------------------------------------------------------------------------
class BearerAuth(_Options):
    """`Authorization: Bearer …`."""

    scheme: Literal["bearer"]
    token: SecretStr = Field(min_length=1)


class BasicAuth(_Options):
    """A user's name and password."""

    scheme: Literal["basic"]
    username: str = Field(pattern=r"^[^:\x00-\x1f]*$")
    password: SecretStr


class ApiKeyAuth(_Options):
    """A key in a header or in the query."""

    scheme: Literal["api_key"]
    key: SecretStr = Field(min_length=1)
    header: str | None = Field(None, pattern=_TOKEN.pattern)
    query: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise ValueError("write `header: X-API-Key` or `query: api_key`: where the key goes")
        return self


class OAuth2Auth(_Options):
    """OAuth 2 client credentials: a token that is fetched, kept until it expires, and fetched anew when refused."""

    scheme: Literal["oauth2"]
    token_url: Url
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    scopes: tuple[str, ...] = ()
    audience: str | None = None
    send: Literal["basic", "body"] = "basic"


Auth = Annotated[BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth, Field(discriminator="scheme")]


# -- how pages follow each other --------------------------------------------------------------------------------------
class _Paging(_Options):
    max_pages: int = Field(1000, ge=1, le=100_000)


class LinkPaging(_Paging):
    """The header `Link: <…>; rel="next"`."""

    by: Literal["link"]


class CursorPaging(_Paging):
    """Something in the answer leads on: a whole URL, or with `param` a value to ask with."""

    by: Literal["cursor"]
    next: str = Field(min_length=1)
    param: str | None = Field(None, min_length=1)
    into: Literal["query", "json"] = "query"


class OffsetPaging(_Paging):
    """How many to skip."""

    by: Literal["offset"]
    param: str = Field("offset", min_length=1)
    limit: int | None = Field(None, ge=1)
    limit_param: str = Field("limit", min_length=1)
    into: Literal["query", "json"] = "query"
    overlap: int = Field(1, ge=0, le=1000)
    more: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.limit is not None and self.overlap >= self.limit:
            raise ValueError("`overlap` must be less than `limit`, or no page leads on")
        return self


class NumberPaging(_Paging):
    """Which page."""

    by: Literal["page"]
    param: str = Field("page", min_length=1)
    first: int = Field(1, ge=0)
    size: int | None = Field(None, ge=1)
    size_param: str = Field("per_page", min_length=1)
    into: Literal["query", "json"] = "query"
    more: str | None = Field(None, min_length=1)


Paging = Annotated[LinkPaging | CursorPaging | OffsetPaging | NumberPaging, Field(discriminator="by")]
