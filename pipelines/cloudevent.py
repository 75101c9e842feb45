"""CloudEvents that a task posts: what a run is about, or what the task says, as one HTTP message. Pure.

In flow a run, its task and what the options say; out flow body and headers in binary or structured mode. The event's id
stays the same however often the request is sent again, so that a receiver can tell repeats; its traceparent is that of
the attempt that sends it, by the Distributed Tracing extension.
"""

import re
from collections.abc import Mapping
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


def cloudevent(
    options: CloudEventOptions, run: Run, task_run: TaskRun, service: str, carried: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers. `carried` are the propagation headers. Raises ValueError for what is no CloudEvent."""
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
    media = options.datacontenttype.split(";", 1)[0].strip().lower()
    is_json = media.endswith(("/json", "+json"))
    if not is_json and not isinstance(data, str):
        raise ValueError("the CloudEvent's data must be text where datacontenttype is not JSON")
    if options.mode == "structured":
        event = {**attributes, "datacontenttype": options.datacontenttype, "data": data}
        return orjson.dumps(event), {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    headers = {f"Ce-{name.title()}": header_value(text) for name, text in attributes.items()}
    headers["Content-Type"] = options.datacontenttype
    return orjson.dumps(data) if is_json else data.encode(), headers


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
