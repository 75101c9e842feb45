"""The evaluator: a compiled set of triggers turns events into a plan."""

from collections.abc import Callable, Mapping, Sequence

from sensors.event import Event
from triggers.errors import RuleError
from triggers.plan import Intent, Plan
from triggers.trigger import Paused, Trigger

__all__ = ["Intent", "Plan", "RuleErrors", "RuleSet"]


class RuleErrors(Exception):
    """Rules that cannot be used: `errors` are (trigger name, what is wrong), all of them."""

    def __init__(self, errors: Sequence[tuple[str, RuleError]]) -> None:
        super().__init__("; ".join(f"trigger {name}: {error}" for name, error in errors))
        self.errors = tuple(errors)


class RuleSet:
    """Compiled triggers. Made once per configuration, read-only afterwards; `plan` may be called from any one thread."""

    def __init__(
        self, triggers: Mapping[str, Trigger], *, config_hash: str, concurrency: Mapping[str, int]
    ) -> None:
        self._triggers = dict(triggers)
        self._config_hash = config_hash
        self._concurrency = dict(concurrency)

    @staticmethod
    def check(
        triggers: Mapping[str, Trigger],
        sensors: Mapping[str, Sequence[str] | None],
        pipelines: Mapping[str, Sequence[str] | None],
    ) -> list[RuleError]:
        """Return every problem at once; `path` starts with the trigger's name."""
        raise NotImplementedError

    def wants(self, sensor: str, type: str, subject: str | None) -> bool:  # noqa: A002 - the CloudEvents attribute name
        """Return False only when no trigger could match such an event."""
        raise NotImplementedError

    def plan(
        self, events: Sequence[Event], now: int, paused: Mapping[str, Paused], uid: Callable[[str], str]
    ) -> Plan:
        """Judge events in order."""
        raise NotImplementedError
