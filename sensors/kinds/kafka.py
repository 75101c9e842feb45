"""Records of Kafka topics, each exactly one event however consumers, brokers and our own store come and go.

In flow topics, read as a member of a consumer group; out flow events for the records that some trigger's filter lets
through (`keep: all`: for every record), and exact counts of the others. Offsets live in our store, in the transaction
that holds the events; the brokers' own follow, for tools that watch lag.

Order: within a partition that of the log; between partitions none.
"""

import orjson

from sensors.adapters.kafka_options import KafkaOptions
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.sensor import Sensor


def build(options: KafkaOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened but the file of `schema`. Raises ValueError with a sentence."""
    from sensors.adapters.kafka_formats import Bytes, Decoder, Json, Text
    from sensors.adapters.kafka_registry import Schemas, schema_check
    from sensors.adapters.kafka_sensor import KafkaSensor

    decoder: Decoder | None
    schemas: Schemas | None = None
    if options.schema_registry is not None:
        decoder = schemas = Schemas(options, options.schema_registry, context.base)
    elif options.format == "json":
        check = None
        if options.schema_file is not None:
            path = context.base / options.schema_file
            try:
                document = orjson.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                raise ValueError(f"`schema`: {path.name} cannot be read as JSON ({error})") from error
            check = schema_check(document, f"`schema`: {path.name}")
        decoder = Json(check)
    else:
        plain: dict[str, Decoder] = {"text": Text(), "bytes": Bytes()}
        decoder = plain.get(options.format)
    group = options.group or f"tidegate-{context.service}-{context.name}"
    return KafkaSensor(context.name, group, options, context.base, context.clock, decoder, schemas)


KIND = SensorKind(
    name="kafka",
    help="records of Kafka topics; positions are kept with the events, the brokers' offsets follow",
    options=KafkaOptions,
    build=build,
    emits=Emits(
        types={
            "kafka.record": "for each record that is kept",
            "*": "with `format: cloudevents`: a CloudEvent's own type",
        },
        subject="the record's key when it is text (up to 1,024 characters); of a CloudEvent its own",
        time="the record's time; of a CloudEvent its own, if it has one",
        data="the value as it came (json, text, bytes, cloudevents), or as JSON (avro, json-schema, protobuf); "
        "none for a tombstone",
        attributes="the record's headers (without secrets), topic, partition, offset, key; tombstone=true without a "
        "value; ceid and extensions of a CloudEvent",
        sample={
            "id": "payments#0/3/48211",
            "source": "kafka://kafka-1:9092/payments",
            "type": "kafka.record",
            "subject": "customer-7",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {"amount": 12.5, "currency": "NOK", "status": "settled"},
            "attributes": {"topic": "payments", "partition": "3", "offset": "48211", "key": "customer-7"},
        },
    ),
)
