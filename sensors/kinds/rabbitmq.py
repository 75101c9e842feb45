"""Messages of a queue of RabbitMQ, of whatever content; each is an event, and acknowledged when that is durable.

In flow messages that the broker sends, from a queue that is there or from one of our own that is bound to an exchange;
out flow batches that share a commit. A message is acknowledged after the commit (`ack: stored`), or when all runs of
its event have ended (`ack: run_finished`); what is not acknowledged when the connection goes comes again.

Order: that of the queue, as long as nothing comes again and nobody else reads it.
"""

from typing import Final

from sensors.adapters.queue_reading import MessageReader
from sensors.adapters.rabbit_options import RabbitOptions, place_of
from sensors.adapters.rabbit_sensor import RabbitSensor
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.sensor import Sensor

MESSAGE: Final = "rabbitmq.message"


def build(options: RabbitOptions, context: SensorContext) -> Sensor:
    """Make the sensor; nothing is opened. Raises ValueError with a sentence."""
    place = place_of(options, context)
    hashes = options.dedup.body if options.dedup is not None else None
    reader = MessageReader(options, place.source, MESSAGE, context, hashes=hashes)
    if options.ack == "run_finished":
        reader.remember = None  # a message may come again as long as its runs take
    return RabbitSensor(options, place, reader, context.clock)


KIND = SensorKind(
    name="rabbitmq",
    help="messages of a queue of RabbitMQ; each is acknowledged when its event is durable, or when its runs have ended",
    options=RabbitOptions,
    build=build,
    emits=Emits(
        types={
            MESSAGE: "a message, unless `type` says otherwise",
            "*": "a CloudEvent's own type, or what `type` says",
        },
        subject="the routing key, a CloudEvent's own, or what `subject` says",
        time="the message's timestamp, a CloudEvent's own, otherwise none",
        data="the message as it came (a CloudEvent's data); parsed by `format`",
        attributes="headers by name, and exchange, routing_key, redelivered, delivery_count, message_id, "
        "correlation_id, reply_to, app_id, user_id, type, priority, expiration, content_encoding, delivery_mode",
        sample={
            "id": "job-17",
            "source": "rabbitmq://localhost:5672/%2F/jobs",
            "type": "rabbitmq.message",
            "subject": "jobs.orders",
            "time": "2026-01-31T06:00:00Z",
            "content_type": "application/json",
            "data": {"job": 17, "table": "orders"},
            "attributes": {"exchange": "jobs", "routing_key": "jobs.orders", "message_id": "job-17", "team": "ingest"},
        },
    ),
)
