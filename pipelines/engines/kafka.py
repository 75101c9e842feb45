"""The `kafka` engine: one task is one record.

In goes a task's topic, key, headers and value, or a CloudEvent by the Kafka protocol binding; out comes where it was
written: topic, partition and offset. Every record carries `idempotency-key` (the engine key) and the propagation
headers. The key stays the same while nobody knows whether the record was written (`Ambiguous`), so that readers can
drop the repeat; what was never sent, or was clearly refused, is a `TaskFailed` instead. The producers, and the last
question for the lease, are `pipelines.producing`'s.
"""

import asyncio
import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import orjson
from pydantic import Field, field_validator, model_validator

from pipelines.calls import Calls
from pipelines.cloudevent import CloudEventOptions, cloudevent_record
from pipelines.errors import TaskFailed, TaskTimedOut
from pipelines.kind import EngineKind, EngineOptions, EngineSettings
from pipelines.ports import TaskContext, TaskResult
from sensors.adapters.kafka_access import Sasl, Tls, brokers_only, encryption
from sensors.units import Duration

if TYPE_CHECKING:
    from pipelines.producing import Producers

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


class KafkaOptions(EngineOptions):
    """One record. `value` and `cloudevent` exclude each other.

    `value` is text as it is, anything else as JSON; `null` with a `key` is a tombstone. `delivery_timeout` bounds the
    time until all replicas in sync have the record, the task's own `timeout` the attempt.
    """

    brokers: tuple[str, ...] = Field(min_length=1)
    topic: str = Field(min_length=1)
    key: Any = None
    headers: Mapping[str, Any] = Field(default_factory=dict)
    value: Any = None
    cloudevent: CloudEventOptions | None = None
    delivery_timeout: Duration = Field(default=30.0, ge=0.1, le=3600)
    tls: Tls | bool = False
    sasl: Sasl | None = None

    @field_validator("brokers")
    @classmethod
    def _are_brokers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return brokers_only(value)

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, value: str) -> str:
        if "${{" not in value and not _TOPIC.fullmatch(value):
            raise ValueError(f"{value!r} is no topic; use letters, digits, dots, `_` and `-`")
        return value

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if ("value" in self.model_fields_set) == (self.cloudevent is not None):
            raise ValueError("`value` or `cloudevent` says what is written: give one of them")
        if self.cloudevent is None and self.value is None and self.key is None:
            raise ValueError("a record without a value needs a `key`; it is the tombstone of that key")
        return self


class KafkaEngine:
    """Writes records from the service's loop through producers that are made with the first record."""

    survives = False
    dedupes = True
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._calls = Calls("record")
        self._producers: Producers | None = None

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        try:
            options = KafkaOptions.model_validate(context.options)
            if not _TOPIC.fullmatch(options.topic):
                raise ValueError(f"{options.topic!r} is no topic; use letters, digits, dots, `_` and `-`")
            key, value, headers = self._content(context, options)
        except ValueError as error:
            raise TaskFailed(f"the kafka task's options are wrong: {error}", "bad_options", retryable=False) from error
        return self._calls.start(self._call(context, options, key, value, headers))

    async def find(self, context: TaskContext) -> str | None:
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        return await self._calls.result(handle)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        await self._calls.cancel(handle)

    async def close(self) -> None:
        await self._calls.close()
        producers, self._producers = self._producers, None
        if producers is not None:
            await producers.close()

    def _content(
        self, context: TaskContext, options: KafkaOptions
    ) -> tuple[bytes | None, bytes | None, Mapping[str, bytes]]:
        """Return key, value and headers: the user's, then ours (ours win where they carry a promise)."""
        headers = {name: _bytes(text) or b"" for name, text in options.headers.items()}
        key, value = _bytes(options.key), _bytes(options.value)
        if options.cloudevent is not None:
            ours = (options.cloudevent, context.run, context.task_run, self._settings.service, context.headers)
            own_key, value, own = cloudevent_record(*ours)
            key = _bytes(own_key) if key is None else key
            _put(headers, own)
        elif value is not None and not any(name.lower() == "content-type" for name in headers):
            kind = "text/plain; charset=utf-8" if isinstance(options.value, str) else "application/json"
            headers["content-type"] = kind.encode()
        _put(headers, {"idempotency-key": context.task_run.engine_key or context.task_run.uid})
        _put(headers, {name.lower(): text for name, text in context.headers.items()})
        return key, value, headers

    async def _call(
        self,
        context: TaskContext,
        options: KafkaOptions,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes],
    ) -> TaskResult:
        producers = self._producers or await self._connect()
        from pipelines.producing import Record, Where

        left = min(options.delivery_timeout, context.deadline - self._settings.clock.monotonic())
        if left <= 0:
            raise TaskTimedOut(f"the task's timeout had passed before the record for {options.topic} was sent")
        where = Where(options.brokers, encryption(options.tls), options.sasl)
        place = (context.task_run.engine_key or context.task_run.uid).encode()
        record = Record(options.topic, key, value, tuple(headers.items()), place)
        partition, offset = await producers.deliver(where, record, context.held, left)
        return TaskResult(output={"topic": options.topic, "partition": partition, "offset": offset})

    async def _connect(self) -> "Producers":
        """Return the producers. The library is imported off the loop: leases are renewed meanwhile."""
        await asyncio.to_thread(importlib.import_module, "pipelines.producing")
        from pipelines.producing import Producers

        if self._producers is None:
            settings = self._settings
            self._producers = Producers(f"tidegate-{settings.service}", settings.base, settings.clock)
        return self._producers


def _bytes(value: Any) -> bytes | None:
    """Write a value: text as it is, anything else as JSON, nothing as nothing. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"it cannot be written as JSON: {error}") from error


def _put(headers: dict[str, bytes], ours: Mapping[str, str]) -> None:
    """Set headers of ours, in place of any that differ in case alone."""
    for name in [name for name in headers if name.lower() in ours]:
        del headers[name]
    headers.update({name: text.encode() for name, text in ours.items()})


KIND = EngineKind(
    name="kafka",
    help="Writes one record to Kafka, plain or as a CloudEvent, with an idempotency key and the run's trace context; "
    "where it was written is the output.",
    options=KafkaOptions,
    build=KafkaEngine,
    example="tell: {engine: kafka, brokers: ['kafka-1:9092'], topic: runs, cloudevent: {mode: binary}}",
)
