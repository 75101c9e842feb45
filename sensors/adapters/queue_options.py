"""The options that all kinds of queues have in common: how a message is read, and how long it is remembered."""

from typing import Literal

from pydantic import Field

from sensors.kind import SensorOptions
from sensors.units import Duration, Size

Format = Literal["auto", "json", "text", "bytes", "cloudevents"]
REMEMBER = 15 * 86_400.0  # a day longer than any queue of SQS keeps a message


class QueueOptions(SensorOptions):
    """How messages become events."""

    format: Format = Field(
        "auto",
        description="what a message is; auto: what its content type says, bytes without one. One that is not so is "
        "a dead letter",
    )
    id: str | None = Field(None, description="CEL over body and headers: the event's id, instead of the message's own")
    type: str | None = Field(None, description="CEL over body and headers: the event's type")
    subject: str | None = Field(None, description="CEL over body and headers: the event's subject")
    remember: Duration = Field(
        REMEMBER, gt=0, description="how long an event's id is remembered, so that a message that comes again is none"
    )
    max_message: Size = Field(1 << 20, gt=0, description="a larger message goes to the dead letters")
    keep_headers: tuple[str, ...] | None = Field(
        None, description="headers that become attributes, x-my-* included; by default all but secrets"
    )
