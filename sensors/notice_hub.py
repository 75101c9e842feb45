"""Passes what a webhook has made durable on to sensors that look at once: notifications of object storage.

In flow events that are stored already, out flow the same to whoever listens to that webhook in this process. What is
passed on is a hint: a listener that is slow, or another process, learns of it from its own listing. Listeners are held
weakly: one that nobody else needs any more is forgotten. Used from one loop.
"""

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakSet

from sensors.event import Event


class Listener(Protocol):
    """Who is told."""

    def heard(self, events: Sequence[Event]) -> None:
        """Take note of stored events; never blocks, never raises."""
        ...


class NoticeHub:
    """All listeners of a process, by the webhook that they listen to."""

    def __init__(self) -> None:
        self._listeners: dict[str, WeakSet[Listener]] = {}

    def listen(self, webhook: str, listener: Listener) -> None:
        """Tell `listener` of what this webhook stores, as long as it lives."""
        self._listeners.setdefault(webhook, WeakSet()).add(listener)

    def publish(self, webhook: str, events: Sequence[Event]) -> None:
        """Tell those who listen."""
        listeners = self._listeners.get(webhook)
        if listeners:
            for listener in list(listeners):
                listener.heard(events)
