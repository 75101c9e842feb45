"""One connection to a broker with the channel that consumes and one beside it, for questions and for publishing.

In flow a place and what to do there, out flow deliveries, in the order in which the broker sent them. The first thing
that goes wrong with connection, channel or consumer is told once, as a sentence; the link is of no use from then on.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sensors.adapters.rabbit_errors import explain
from sensors.adapters.rabbit_frames import MendingReader
from sensors.adapters.rabbit_options import OFTEN, RabbitOptions, RabbitPlace, RabbitTls
from sensors.errors import NotConnected

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection
    from aiormq.abc import AbstractChannel as RawChannel
    from aiormq.abc import DeliveredMessage

TIMEOUT: Final = 10.0  # seconds for one question; a queue that has just lost its leader never answers some
_STREAM: Final = "x-stream-offset"


class RabbitLink:
    """A connection. `on_delivery` and `on_fault` are called on the loop, at once and in order."""

    def __init__(
        self,
        place: RabbitPlace,
        on_delivery: Callable[["DeliveredMessage"], None],
        on_fault: Callable[[NotConnected], None],
    ) -> None:
        self._place = place
        self._on_delivery = on_delivery
        self._tell = on_fault
        self._told = False
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._beside: AbstractChannel | None = None

    async def open(self) -> None:
        """Connect. Raises NotConnected."""
        try:
            async with asyncio.timeout(TIMEOUT):
                self._connection = await _connect(self._place)
                self._connection.close_callbacks.add(self._closed)
                self._channel = await self._connection.channel(publisher_confirms=False)
                self._beside = await self._connection.channel(publisher_confirms=True)
            self._channel.close_callbacks.add(self._closed)
            self._beside.close_callbacks.add(self._closed)
        except Exception as error:
            await self.close()
            raise explain(error, self._place) from error

    async def prepare(self, options: RabbitOptions) -> None:
        """See that queue and exchanges are there, or make the queue. Raises NotConnected."""
        channel = self._open_channel(self._channel)
        try:
            if options.declares:
                queue = await channel.declare_queue(
                    self._place.queue, durable=True, arguments=_arguments(options), timeout=TIMEOUT
                )
                for key in options.bindings if options.exchange is not None else ():
                    await queue.bind(options.exchange or "", key, timeout=TIMEOUT)
            else:
                await channel.declare_queue(self._place.queue, passive=True, timeout=TIMEOUT)
            if options.dead_letter is not None and options.dead_letter.exchange:
                async with asyncio.timeout(TIMEOUT):
                    await channel.get_exchange(options.dead_letter.exchange, ensure=True)
        except Exception as error:
            raise explain(error, self._place) from error

    async def consume(self, window: int, tag: str) -> None:
        """Begin to receive, at most so many messages that are not acknowledged. Raises NotConnected."""
        try:
            raw = await self._raw(self._channel)
            raw.on_consumer_cancel_callbacks.add(self._cancelled)
            await raw.basic_qos(prefetch_count=window, timeout=TIMEOUT)
            await raw.basic_consume(self._place.queue, self._deliver, consumer_tag=tag, timeout=TIMEOUT)
        except Exception as error:
            raise explain(error, self._place) from error

    async def settle(self, calls: Sequence[tuple[int, bool]]) -> None:
        """Acknowledge delivery tags, with `True` all up to it. Raises NotConnected: then they come again."""
        try:
            raw = await self._raw(self._channel)
            for tag, multiple in calls:
                await raw.basic_ack(tag, multiple=multiple)
        except Exception as error:
            raise explain(error, self._place) from error

    async def depth(self) -> int:
        """Ask how many messages are ready for anybody. Raises NotConnected."""
        try:
            beside = self._open_channel(self._beside)
            queue = await beside.declare_queue(self._place.queue, passive=True, timeout=TIMEOUT)
            return queue.declaration_result.message_count or 0
        except Exception as error:
            raise explain(error, self._place) from error

    async def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        """Publish and wait until the broker has it in a queue. Raises NotConnected when it has not."""
        from aiormq.exceptions import DeliveryError
        from pamqp.commands import Basic

        try:
            raw = await self._raw(self._beside)
            answer = await raw.basic_publish(
                body, exchange=exchange, routing_key=key, properties=properties, mandatory=True, timeout=TIMEOUT
            )
        except DeliveryError as error:
            raise NotConnected(f"the broker at {self._place.host} does not take it: {error}") from error
        except Exception as error:
            raise explain(error, self._place) from error
        if not isinstance(answer, Basic.Ack):
            raise NotConnected(
                f"exchange {exchange!a} has no queue for the routing key {key!a}; bind one, or correct `routing_key`"
            )

    async def peek(self, limit: int) -> Sequence["DeliveredMessage"]:
        """Get up to so many messages and give them back by letting go of the channel. Raises NotConnected."""
        from pamqp.commands import Basic

        found: list[DeliveredMessage] = []
        try:
            raw = await self._raw(self._channel)
            while len(found) < limit:
                got = await raw.basic_get(self._place.queue, timeout=TIMEOUT)
                if not isinstance(got.delivery, Basic.GetOk):
                    break
                found.append(got)
            if found:
                await raw.basic_nack(found[-1].delivery_tag or 0, multiple=True, requeue=True)
        except Exception as error:
            raise explain(error, self._place) from error
        return found

    async def close(self) -> None:
        """Let go; never raises. What is not acknowledged is the broker's again."""
        self._told = True
        connection, self._connection, self._channel, self._beside = self._connection, None, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 5.0)

    # -- what the client calls ----------------------------------------------------------------------------------------
    async def _deliver(self, delivery: "DeliveredMessage") -> None:
        if _STREAM in (delivery.header.properties.headers or {}):
            self._fault(
                NotConnected(f"queue {self._place.queue!a} is a stream, which keeps no place for readers; bind a queue")
            )
        elif not self._told:
            self._on_delivery(delivery)

    def _closed(self, _: Any, error: BaseException | None = None) -> None:
        lost = NotConnected(f"the broker at {self._place.host} closed the connection")
        self._fault(lost if error is None or isinstance(error, asyncio.CancelledError) else explain(error, self._place))

    async def _cancelled(self, _: Any) -> None:
        self._fault(
            NotConnected(
                f"the broker at {self._place.host} took queue {self._place.queue!a} from its reader; was it deleted?"
            )
        )

    def _fault(self, error: NotConnected) -> None:
        if not self._told:
            self._told = True
            self._tell(error)

    def _open_channel(self, channel: "AbstractChannel | None") -> "AbstractChannel":
        if channel is None:
            raise NotConnected(f"the broker at {self._place.host}: not connected")
        return channel

    async def _raw(self, channel: "AbstractChannel | None") -> "RawChannel":
        return await self._open_channel(channel).get_underlay_channel()


async def _connect(place: RabbitPlace) -> "AbstractConnection":
    """Connect with frames that are mended before the client reads them."""
    from aio_pika.abc import ConnectionParameter
    from aio_pika.connection import Connection
    from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
    from aiormq.exceptions import ConnectionClosed, InvalidFrameError
    from yarl import URL

    class Mending(TransportFactory):
        reader: MendingReader | None = None

        async def create(self, url: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            plain = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
            reader, writer = await plain.create(url, **kwargs)
            self.reader = MendingReader(reader)
            mending: Any = self.reader
            return mending, writer

    class MendingConnection(Connection):
        PARAMETERS = (
            *Connection.PARAMETERS,
            ConnectionParameter("transport_factory", lambda made: made, is_kwarg=True),
        )

    context = await asyncio.to_thread(_context, place.tls) if place.url.startswith("amqps:") else None
    transport = Mending()
    connection = MendingConnection(
        URL(place.url), ssl_context=context, client_properties={"product": "tidegate"}, transport_factory=transport
    )
    try:
        await connection.connect(timeout=TIMEOUT)
    except InvalidFrameError as error:  # what the client makes of a broker that says no to the virtual host
        if transport.reader is None or transport.reader.farewell is None:
            raise
        raise ConnectionClosed(*transport.reader.farewell) from error
    return connection


def _arguments(options: RabbitOptions) -> dict[str, Any]:
    """Return the arguments of a queue that is made."""
    arguments: dict[str, Any] = {} if options.queue_type is None else {"x-queue-type": options.queue_type}
    if options.queue_type == "quorum":
        arguments["x-delivery-limit"] = OFTEN
    return arguments | dict(options.arguments)


def _context(tls: RabbitTls | None) -> ssl.SSLContext:
    """Read certificates. Blocks: runs in a thread."""
    options = tls or RabbitTls()
    context = ssl.create_default_context(cafile=options.ca)
    if options.cert is not None:
        context.load_cert_chain(options.cert, options.key)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
