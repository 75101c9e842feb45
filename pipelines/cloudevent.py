"""CloudEvents that a task sends: what a run is about, or what the task says, as one HTTP message or Kafka record. Pure.

In flow a run, its task and what the options say; out flow body and headers in binary or structured mode. The event's id
stays the same however often the request is sent again, so that a receiver can tell repeats; its traceparent is that of
the attempt that sends it, by the Distributed Tracing extension.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from pipelines.run import Run, TaskRun
from sensors.cloudevents import header_value

TRIGGERED: Final = "tidegate.triggered"
_NAME = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_OWN = frozenset(("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"))
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_STRUCTURED = "application/cloudevents+json; charset=utf-8"


class CloudEventOptions(BaseModel):
    """A CloudEvent. What is not said follows from the run: it is told of as what a trigger started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["binary", "structured"] = Field("binary", description="attributes in headers, or all in the body")
    id: str | None = Field(None, description="by default the task run's uid, the same for every attempt")
    source: str | None = Field(None, description="by default /tidegate/SERVICE")
    type: str = Field(TRIGGERED, description="the event's type")
    subject: str | None = Field(None, description="by default the trigger's name, or else the pipeline's")
    datacontenttype: str = Field("application/json", description="what the data is")
    data: Any = Field(None, description="by default the run: its uid, pipeline, trigger, key, partition and parameters")
    extensions: Mapping[str, Any] = Field({}, description="further attributes, by lower-case name")


@dataclass(frozen=True, slots=True)
class Told:
    """One CloudEvent, before a protocol's binding: its attributes (without datacontenttype) as text, and its data."""

    attributes: Mapping[str, str]
    content_type: str
    data: Any

    def structured(self) -> bytes:
        """Return all of it in the JSON format."""
        return orjson.dumps({**self.attributes, "datacontenttype": self.content_type, "data": self.data})

    def body(self) -> bytes:
        """Return the data alone, as its content type says."""
        return orjson.dumps(self.data) if _is_json(self.content_type) else self.data.encode()


def cloudevent(
    options: CloudEventOptions, run: Run, task_run: TaskRun, service: str, carried: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    """Return an HTTP message's body and headers. `carried` are the propagation headers.

    Raises ValueError for what is no CloudEvent.
    """
    event = told(options, run, task_run, service, carried)
    if options.mode == "structured":
        return event.structured(), {"Content-Type": _STRUCTURED}
    headers = {f"Ce-{name.title()}": header_value(text) for name, text in event.attributes.items()}
    return event.body(), {**headers, "Content-Type": event.content_type}


def cloudevent_record(
    options: CloudEventOptions, run: Run, task_run: TaskRun, service: str, carried: Mapping[str, str]
) -> tuple[str | None, bytes, dict[str, str]]:
    """Return a Kafka record's key, value and headers. The key is the extension `partitionkey`, where there is one.

    Raises ValueError for what is no CloudEvent.
    """
    event = told(options, run, task_run, service, carried)
    key = event.attributes.get("partitionkey")
    if options.mode == "structured":
        return key, event.structured(), {"content-type": _STRUCTURED}
    headers = {f"ce_{name}": text for name, text in event.attributes.items()}  # plain UTF-8, unlike in HTTP
    return key, event.body(), {**headers, "content-type": event.content_type}


def told(options: CloudEventOptions, run: Run, task_run: TaskRun, service: str, carried: Mapping[str, str]) -> Told:
    """Return the CloudEvent that the options mean. Raises ValueError for what is none."""
    attributes = {
        "specversion": "1.0",
        "id": options.id or task_run.uid,
        "source": options.source or f"/tidegate/{service}",
        "type": options.type,
        "time": datetime.fromtimestamp(run.created_at / 1_000_000, UTC).isoformat().replace("+00:00", "Z"),
        "subject": options.subject or run.trigger or run.pipeline,
    }
    for name in ("traceparent", "tracestate"):
        if name in carried:
            attributes[name] = carried[name]
    for name, value in options.extensions.items():
        if not _NAME.fullmatch(name) or name in _OWN:
            raise ValueError(f"{name!r} is no name of an extension; use lower-case letters and digits")
        if value is not None:
            attributes[name] = _text(name, value)
    for name, text in attributes.items():
        if not text or _CONTROL.search(text):
            raise ValueError(f"the CloudEvent's {name} is empty, or holds a control character")
    data: Any = _about(run) if options.data is None else options.data
    if not _is_json(options.datacontenttype) and not isinstance(data, str):
        raise ValueError("the CloudEvent's data must be text where datacontenttype is not JSON")
    return Told(attributes, options.datacontenttype, data)


def _is_json(content_type: str) -> bool:
    return content_type.split(";", 1)[0].strip().lower().endswith(("/json", "+json"))


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise ValueError(f"the CloudEvent's {name} must be text, a whole number, or true or false")


def _about(run: Run) -> Mapping[str, Any]:
    return {
        "run": run.uid,
        "pipeline": run.pipeline,
        "trigger": run.trigger,
        "trigger_event": run.trigger_event,
        "key": run.key,
        "generation": run.generation,
        "partition": run.partition,
        "params": dict(run.params),
    }
