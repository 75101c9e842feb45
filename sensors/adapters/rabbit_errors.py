"""What goes wrong with a broker, in sentences that name the cause and what would be right. Shows no password.

In flow what the client raises or a channel was closed with, out flows NotConnected; the runner connects again.
"""

import re
import ssl
from typing import Final

from sensors.adapters.rabbit_options import RabbitPlace
from sensors.errors import NotConnected
from sensors.headers import safe_text

_TIMED_OUT: Final = re.compile(r"delivery acknowledgement on channel \d+ timed out")


def explain(error: BaseException, place: RabbitPlace) -> NotConnected:
    """Return what to tell of an error."""
    return error if isinstance(error, NotConnected) else NotConnected(_sentence(error, place))


def _sentence(error: BaseException, place: RabbitPlace) -> str:
    from aiormq import exceptions as amqp

    tls = next((one for one in (error, error.__cause__) if isinstance(one, ssl.SSLError)), None)
    at, told = f"the broker at {place.host}", _told(error)
    if tls is not None:
        return f"{at} cannot be trusted, or speaks no TLS: {tls}; set `tls: {{ca: …}}` or correct `url`"
    if isinstance(error, amqp.AMQPChannelError):
        return _of_channel(error, at, told, f"queue {place.queue!a} in the virtual host {place.vhost!a}")
    if isinstance(error, amqp.AMQPError):
        return _of_connection(error, at, told, place)
    if isinstance(error, TimeoutError):
        return f"{at} does not answer"
    if isinstance(error, OSError):
        return f"{at} cannot be reached: {told}"
    return f"{at}: {type(error).__name__}: {told}"


def _of_connection(error: BaseException, at: str, told: str, place: RabbitPlace) -> str:
    from aiormq import exceptions as amqp

    if isinstance(error, amqp.ProbableAuthenticationError | amqp.AuthenticationError):
        return f"{at} refuses the credentials: {told}; correct user and password in `url`"
    if isinstance(error, amqp.ConnectionNotAllowed) or "NOT_ALLOWED" in told:
        if "not found" in told:
            return f"{at} has no virtual host {place.vhost!a}; create it, or correct `vhost`"
        return f"{at} does not let this user into the virtual host {place.vhost!a}: {told}; give it permissions"
    if isinstance(error, amqp.IncompatibleProtocolError | amqp.ProtocolSyntaxError):
        return f"what answers at {place.host} is no AMQP 0-9-1 broker, or wants TLS: {told}; correct `url`"
    if isinstance(error, amqp.ConnectionClosed):
        return f"{at} closed the connection: {told}"
    return f"{at} cannot be reached: {told}"


def _of_channel(error: BaseException, at: str, told: str, queue: str) -> str:
    from aiormq import exceptions as amqp

    if isinstance(error, amqp.ChannelNotFoundEntity):
        if "no exchange" in told:
            return f"{at}: {told}; create the exchange, or correct its name"
        return f"{at} has no {queue}: {told}; create it, or write `declare: true`"
    if isinstance(error, amqp.ChannelPreconditionFailed):
        if _TIMED_OUT.search(told):
            return (
                f"{at} took messages of {queue} back because they were not acknowledged in time; raise the broker's "
                "`consumer_timeout` above the longest run, or write `ack: stored`"
            )
        return (
            f"{queue} is there with other properties than asked for: {told}; correct `queue_type` and `arguments`, or "
            "leave `declare` out"
        )
    if isinstance(error, amqp.ChannelAccessRefused):
        return f"{at} does not let this user do it: {told}; give it permissions on {queue}"
    if isinstance(error, amqp.ChannelLockedResource):
        return f"another connection has {queue} for itself: {told}"
    return f"{at} closed the channel: {told}"


def _told(error: BaseException) -> str:
    """Return what an error says, without the code that the client puts before it."""
    parts = [str(part) for part in error.args if part not in (None, "")]
    return safe_text(" ".join(parts) or type(error).__name__)[:300]
