"""Taking in once more what a dead letter kept: a payload that could not become an event, read by today's options.

In flow a letter, on an instance of the sensor that was never connected; out flows a batch, as a read or a request would
have brought it: an event, or a dead letter that says what is still wrong. Nothing is moved or acknowledged, and nothing
is verified again: the letter was made of what had been let in. What is made durable, and that the letter is dealt with,
is the caller's, in one transaction.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from sensors.batch import Batch, Cursor, DeadLetter
from sensors.ports import Lookup


class NotRetryable(Exception):
    """A letter cannot be taken in again; the sentence says why, and what to do instead."""


@runtime_checkable
class Retryable(Protocol):
    """A sensor that can read again what its letters kept."""

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read the letter `uid` once more; `at` (UTC micros) is when its event is received.

        A batch with memory instead of events has the source looked at again. Raises NotRetryable, and Refused.
        """
        ...
