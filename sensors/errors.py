"""What a sensor may raise, named by what the caller does next.

SensorError
├── NotConnected    connect again, after a back-off
├── BackOff         wait as long as it says, then read again; the connection is fine
├── Exhausted       the source has no more, ever: close, do not reconnect
├── BadPayload      this one payload is unreadable: dead-letter it, go on
└── Refused         (push only) answer the sender with its status; nothing is stored
"""

from collections.abc import Mapping


class SensorError(Exception):
    """A sensor could not do its work; the sentence says why, for the person who runs it."""


class NotConnected(SensorError):
    """The connection is gone or was never made."""


class BackOff(SensorError):
    """The source asked for patience (throttling, Retry-After): `wait` seconds."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Exhausted(SensorError):
    """The source has ended for good."""


class BadPayload(SensorError):
    """One payload cannot become an event; `payload` are its raw bytes, `position` where it stood in the source."""

    def __init__(self, message: str, payload: bytes = b"", position: str = "") -> None:
        super().__init__(message)
        self.payload = payload
        self.position = position


class Refused(SensorError):
    """A pushed request is refused: HTTP `status`, a `code` for metrics and operators, headers for the answer.

    The sentence is for operators; the sender is told only the status' standard phrase and `public`.
    """

    def __init__(
        self, status: int, code: str, message: str, *, public: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.public = public
        self.headers = dict(headers or {})
