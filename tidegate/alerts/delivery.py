"""Messages on their way: claimed for a lease, tried, and kept with what became of the attempt.

In flow what targets answered; out flow messages that are done with, or the moment of the next attempt: after an
exponential back-off with jitter, or what the target asked for, until the route's patience ends. A message that cannot
be delivered for a while is itself an alert, on the other routes.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidegate.alerts.raising import raise_alerts
from tidegate.alerts.sources import undelivered_alert
from tidegate.alerts.targets import Answer
from tidegate.rules import RulesInForce
from tidegate.store.alert_records import AlertMessage, MessageEnd
from tidegate.store.tx import Tx

LEASE = 60_000_000  # µs that an attempt may take before others may make one
FIRST = 5.0  # seconds
MOST = 900.0
ASKED = 3_600.0  # a target that asks for a longer wait is tried all the same
LOUD = 5  # failed attempts after which others are told
ENDED = "the target is not configured any more"


@dataclass(frozen=True, slots=True)
class ClaimAsk:
    """How many messages somebody can send now."""

    limit: int


class ClaimMessages:
    """The write that takes messages that are due."""

    name = "claim_messages"

    def __call__(self, tx: Tx, items: Sequence[ClaimAsk]) -> Sequence[Sequence[AlertMessage]]:
        """Claim for each ask."""
        return [tx.claim_messages(ask.limit, LEASE) if ask.limit > 0 else () for ask in items]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one attempt. `answer` None: there is no such target any more. `shown` is the target's name."""

    message: AlertMessage
    shown: str
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a report: what the message is now, and whether alerts were raised of it. `state` "": too late."""

    state: str
    next_in: float = 0.0
    raised: int = 0


class KeepAttempts:
    """The write that keeps what became of attempts."""

    name = "keep_attempts"

    def __init__(self, rules: RulesInForce, rand: Callable[[], float] = random.random) -> None:
        self._rules = rules
        self._rand = rand

    def __call__(self, tx: Tx, items: Sequence[Attempt]) -> Sequence[Kept]:
        """Keep all."""
        return [self._keep(tx, item) for item in items]

    def _keep(self, tx: Tx, attempt: Attempt) -> Kept:
        message, answer, now = attempt.message, attempt.answer, tx.now()
        rules = self._rules.current.alerts
        route = rules.routes.get(message.route)
        state, error, next_in = "suppressed", ENDED, 0.0
        if answer is not None and answer.ok:
            state, error = "sent", ""
        elif answer is not None:
            error = answer.error
            next_in = max(delay(message.attempts, self._rand), min(answer.wait, ASKED))
            patience = route.retry_for if route is not None else 0.0
            state = "pending" if now + next_in * 1e6 < message.made_at + patience * 1e6 else "failed"
        end = MessageEnd(message.message, message.target, message.attempts, state, now + int(next_in * 1e6), error)
        if not tx.end_attempt(end):
            return Kept("")
        raised = 0
        if answer is not None and (answer.ok or message.attempts >= LOUD or state == "failed"):
            alert = undelivered_alert(message, attempt.shown, None if answer.ok else error, now)
            raised = raise_alerts(tx, rules, [alert], not_on=message.route)
        return Kept(state, next_in, raised)


def delay(attempts: int, rand: Callable[[], float]) -> float:
    """Return the seconds until the next attempt after so many."""
    return float(min(MOST, FIRST * 2.0 ** min(attempts - 1, 30)) * (0.75 + 0.5 * rand()))
