"""All options of a sensor that polls an API, and which of them go together."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sensors.adapters.http_options import Auth, Headers, Hidden, OverlapOption, Paging, Url, Values
from sensors.adapters.item_expect import ItemExpect
from sensors.kind import SensorOptions
from sensors.units import Duration, Size, Start


class HttpOptions(SensorOptions):
    """Options of `kind: http`."""

    templates: ClassVar[frozenset[str]] = frozenset({"url", "query", "headers", "json", "body"})

    kind: Literal["http"] = "http"
    url: Url = Field(repr=False, description="what is asked; its host is plain text, behind it may stand ${{ … }}")
    method: Literal["GET", "POST"] = "GET"
    query: Values = Field({}, repr=False, description="parameters; null leaves one out, a list repeats it")
    headers: Headers = Field({}, repr=False, description="headers besides those of `auth`")
    json_: Hidden = Field(None, alias="json", repr=False, description="the body of a POST, as JSON")
    body: Hidden = Field(None, repr=False, description="the body of a POST, as text")
    auth: Auth | None = Field(None, description="who asks: `scheme: bearer, basic, api_key` or `oauth2`")
    paging: Paging | None = Field(None, description="how pages follow: `by: link, cursor, offset` or `page`")
    every: Duration = Field(60.0, ge=0.1, description="how often it is asked")
    start: Start = Field(description="which items are events at first: now (none that are there), beginning (all), …")
    items: str | None = Field(
        None, min_length=1, description="CEL over body and headers: the list of items; by default the body itself"
    )
    id: str | None = Field(
        None, min_length=1, description="CEL over item, body and headers: an item's id; without, its content"
    )
    version: str | None = Field(
        None, min_length=1, description="CEL: an item's version, such as item.updated_at; `item` for its content"
    )
    high: str | None = Field(
        None, min_length=1, description="CEL: what rises with each change: a moment, a number or a text"
    )
    overlap: OverlapOption | None = Field(
        None, description="how far to look back behind `high`; by default 5m for moments, nothing for others"
    )
    remember: Duration = Field(
        365 * 86_400.0, gt=0, description="how long an item that cannot come back unchanged is remembered"
    )
    on: tuple[Literal["created", "changed", "schema"], ...] = Field(
        ("created", "changed", "schema"), min_length=1, description="which changes are events"
    )
    expect: ItemExpect | None = Field(None, description="what items must be like; others are refused")
    changed: str | None = Field(
        None, min_length=1, description="CEL over body and headers: a value; each change of it is an event"
    )
    timeout: Duration = Field(60.0, gt=0, le=600, description="bounds one request, its answer included")
    read_timeout: Duration = Field(20.0, gt=0, le=600, description="how long an answer may fall silent, or trickle")
    max_body: Size = Field(16 << 20, ge=1024, le=1 << 30, description="the largest answer, packed and unpacked")
    per_host: int = Field(1, ge=1, le=64, description="requests of this process to one host at once")
    ca_bundle: str | None = Field(None, description="certificates to trust, relative to the configuration file")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.json_ is not None and self.body is not None:
            raise ValueError("`json` and `body` exclude each other")
        if self.method == "GET" and (self.json_ is not None or self.body is not None):
            raise ValueError("a GET has no body; write `method: POST`")
        if getattr(self.paging, "into", "query") == "json" and self.json_ is None:
            raise ValueError("`paging.into: json` needs `json`")
        if self.watches_items:
            if self.version is not None and self.id is None:
                raise ValueError("`version` needs `id`: without one an item is known by its whole content")
            if self.start.mode in ("time", "back") and self.high is None:
                raise ValueError("`start`: only with `high` is known how old an item is; write `now` or `beginning`")
        else:
            for name in ("id", "version", "high", "overlap", "paging", "expect"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is of items; write `items` as well, beside `changed`")
            if self.start.mode in ("time", "back"):
                raise ValueError("`start`: a value has no history; write `now` or `beginning`")
        if self.overlap is not None and self.high is None:
            raise ValueError("`overlap` needs `high`")
        return self

    @property
    def watches_items(self) -> bool:
        """Say whether items are read, and not only a value is watched."""
        return self.items is not None or self.changed is None
