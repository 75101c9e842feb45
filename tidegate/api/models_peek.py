"""What the API answers about events that are not there yet: a peek at a sensor."""

from typing import Any

from pydantic import Field

from tidegate.api.models import Model, Moment


class PeekedEvent(Model):
    """An event that the sensor would emit next."""

    id: str
    type: str
    source: str
    subject: str | None
    time: Moment | None = Field(description="The source's own time.")
    content_type: str | None
    attributes: dict[str, str]
    match: dict[str, str] = Field(description="Captures of the sensor's pattern.")
    data: Any = Field(description="JSON as JSON, other content as text.")
    stored: bool = Field(description="It is stored already under this id, so that it would be a duplicate.")


class PeekedLetter(Model):
    """A payload that would become a dead letter."""

    reason: str
    detail: str
    position: str


class SensorPeek(Model):
    """What a sensor would emit next. Nothing was stored, moved or acknowledged."""

    sensor: str
    events: list[PeekedEvent]
    dead_letters: list[PeekedLetter]
