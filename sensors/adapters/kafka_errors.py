"""What Kafka's errors mean for a sensor: one sentence each that names the cause and the remedy.

In flow exceptions of aiokafka, out flows NotConnected; a cause that cannot be told apart keeps its own words.
"""

import asyncio
import ssl
from typing import Final

from aiokafka import errors as kafka

from sensors.errors import NotConnected, SensorError


def told(error: BaseException, brokers: str) -> SensorError:
    """Return the error as the runner is to see it; `brokers` as configured."""
    if isinstance(error, SensorError):
        return error
    sentence = _sentence(error, brokers)
    answer = NotConnected(sentence)
    answer.__cause__ = error
    return answer


def _sentence(error: BaseException, brokers: str) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            said = getattr(cause, "reason", None) or cause
            return f"no secure connection to {brokers}: {said}; check `tls` and the brokers' certificates"
        cause = cause.__cause__ or cause.__context__
    for kinds, sentence in _MEANINGS:
        if isinstance(error, kinds):
            names = ", ".join(str(arg) for arg in error.args) or "that was asked for"
            return sentence.format(brokers=brokers, error=error, names=names)
    return f"{type(error).__name__}: {error}"


_IDENTITY = "{brokers} refused who we are ({error}); check `sasl`"
_MEANINGS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    (
        (kafka.TopicAuthorizationFailedError,),
        "not allowed to read topic {names}; grant READ and DESCRIBE on it",
    ),
    (
        (kafka.GroupAuthorizationFailedError,),
        "not allowed to use the consumer group {names}; grant READ on it, or set `group`",
    ),
    ((kafka.AuthenticationFailedError, kafka.AuthenticationMethodNotSupported), _IDENTITY),
    ((kafka.UnsupportedSaslMechanismError, kafka.IllegalSaslStateError, kafka.SaslAuthenticationFailed), _IDENTITY),
    (
        (kafka.KafkaConnectionError, kafka.NoBrokersAvailable),
        "no broker answers at {brokers} ({error}); are they running, and are `brokers`, `tls` and `sasl` right?",
    ),
    ((kafka.UnknownTopicOrPartitionError,), "topic {names} does not exist; create it, or correct `topics`"),
    (
        (kafka.UnknownError,),  # the library has no name for a static member that was replaced
        "the brokers refused with an error of no name ({error}); where `instance` is set, is it another process's too?",
    ),
    (
        (kafka.InvalidSessionTimeoutError,),
        "the brokers do not allow this `session_timeout`; choose one between their bounds",
    ),
    (
        (kafka.UnsupportedVersionError, kafka.IncompatibleBrokerVersion, kafka.UnrecognizedBrokerVersion),
        "the brokers at {brokers} speak another version of the protocol ({error})",
    ),
    ((kafka.CorruptRecordException,), "a record came damaged ({error}); it is read again"),
    ((asyncio.TimeoutError, kafka.RequestTimedOutError, kafka.KafkaTimeoutError), "{brokers} did not answer in time"),
    ((OSError,), "{brokers} cannot be reached ({error}); are they running, and are `brokers` and `tls` right?"),
)
