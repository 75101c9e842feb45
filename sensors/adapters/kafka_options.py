"""The options of the kafka sensor, and what can be wrong with them before anything connects.

In flow what stands in the configuration, out flow frozen models: where the brokers are, what is read, from where
on, how records are to be understood, who we are and how much may be in memory.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from sensors.adapters.kafka_access import Sasl, Tls, brokers_only, encryption
from sensors.kind import SensorOptions
from sensors.units import Duration, Size, Start

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
REGISTERED = ("avro", "json-schema", "protobuf")

Topic = Annotated[str, Field(min_length=1, max_length=249)]


class Registry(BaseModel):
    """A schema registry that speaks Confluent's API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^\s]+$")
    username: str | None = Field(None, min_length=1)
    password: SecretStr | None = None
    ca: str | None = Field(None, description="certificates to trust, relative to the configuration file")


class KafkaOptions(SensorOptions):
    """Options of `kind: kafka`."""

    kind: Literal["kafka"] = "kafka"
    brokers: tuple[str, ...] = Field(min_length=1, description="where to begin to ask, such as [kafka-1:9092]")
    topics: tuple[Topic, ...] = Field((), description="the topics to read")
    pattern: str | None = Field(None, min_length=1, description="a regular expression over topics, instead of `topics`")
    start: Start = Field(description="where to begin in partitions that were never read")
    group: str | None = Field(None, min_length=1, max_length=249, description="default tidegate-SERVICE-SENSOR")
    instance: str | None = Field(
        None, min_length=1, max_length=249, description="static membership: a name of this process that no other has"
    )
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed", description="whether records of transactions that were not committed are read"
    )
    format: Literal["json", "text", "bytes", "cloudevents", "avro", "json-schema", "protobuf"] = Field(
        "json", description="what the values are; CloudEvents in binary and structured mode"
    )
    schema_file: str | None = Field(
        None, alias="schema", description="a JSON Schema that every record must keep, with `format: json`"
    )
    schema_registry: Registry | None = Field(None, description="where the schemas of avro, json-schema, protobuf are")
    keep: Literal["matched", "all"] = Field(
        "matched", description="store what some trigger's filter lets through, or every record"
    )
    max_record: Size = Field(1 << 20, ge=1, le=64 << 20, description="larger records become dead letters")
    headers: tuple[str, ...] | None = Field(None, description="record headers to keep; all but secrets by default")
    tls: Tls | bool = Field(False, description="true, or certificates: {ca, cert, key, check_hostname}")
    sasl: Sasl | None = Field(None, description="who we are: {mechanism, username, password}, or oauth")
    session_timeout: Duration = Field(10.0, ge=1, le=1800, description="how long a silent process keeps its partitions")
    max_records: int = Field(
        10_000, ge=1, le=100_000, description="after so many records the transaction is closed, although there are more"
    )

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @field_validator("brokers")
    @classmethod
    def _are_brokers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return brokers_only(value)

    @field_validator("topics")
    @classmethod
    def _are_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for topic in value:
            if not _TOPIC.fullmatch(topic):
                raise ValueError(f"{topic!r} is no topic; use letters, digits, dots, `_` and `-`")
        if len(set(value)) < len(value):
            raise ValueError("a topic is named twice")
        return value

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            import re2  # linear time: names of topics come from outside

            try:
                re2.compile(value)
            except re2.error as error:
                raise ValueError(f"is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if bool(self.topics) == (self.pattern is not None):
            raise ValueError("`topics` or `pattern` says what is read: give one of them")
        if (self.format in REGISTERED) != (self.schema_registry is not None):
            if self.schema_registry is None:
                raise ValueError(f"`format: {self.format}` needs `schema_registry: {{url: …}}`")
            raise ValueError(f"`schema_registry` is for {', '.join(REGISTERED)}; leave it out")
        if self.schema_file is not None and self.format != "json":
            raise ValueError("`schema` goes with `format: json`; leave it out")
        return self

    @property
    def secure(self) -> Tls | None:
        """Return how the connection is encrypted; None when it is not."""
        return encryption(self.tls)


def topics_of(options: KafkaOptions, known: Sequence[str]) -> list[str]:
    """Return which of the topics that exist are to be read, sorted."""
    if options.pattern is None:
        return sorted(set(options.topics) & set(known))
    import re2

    matches = re2.compile(options.pattern).match
    return sorted(topic for topic in known if matches(topic) and not topic.startswith("__"))
