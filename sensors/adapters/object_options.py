"""The options that all kinds on object storage have in common."""

from typing import Literal

from pydantic import Field, field_validator

from sensors.kind import SensorOptions
from sensors.patterns import compile_pattern
from sensors.units import Duration, Size, Start


class ObjectOptions(SensorOptions):
    """What is watched, how often it is compared, and which changes are events."""

    prefix: str = Field("", description="only keys that begin so; `{%Y-%m-%d}` stands for the date in UTC")
    days: int = Field(2, ge=1, le=3660, description="with a date in `prefix`: how many days back are compared")
    pattern: str | None = Field(None, description="over the whole key: {name} captures, * any text, ** any depth")
    start: Start = Field(description="which objects that are there at first are events: now (none), beginning (all), …")
    every: Duration = Field(
        60.0, ge=0.1, description="how often the listing is compared, whatever notifications have told"
    )
    on: tuple[Literal["created", "overwritten", "renamed", "deleted"], ...] = Field(
        ("created", "overwritten", "renamed"), min_length=1
    )
    reupload: Literal["event", "ignore"] = Field(
        "event", description="whether a new version with the same content (etag and size) is an event"
    )
    ignore: tuple[str, ...] = Field(
        ("_temporary", ".*", "*.tmp", "*.part", "*._COPYING_", "*$folder$"),
        description="names (of any segment of the key) to leave out",
    )
    min_size: Size = Field(0, description="smaller objects are left out")
    head: bool = Field(False, description="look at each new object for content type, metadata and tags")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            compile_pattern(value)
        return value
