"""What a campaign saw from outside: what was sent, acknowledged, dropped and requested, and how each process ended.

Plain values without any logic of the service. `_checker` holds them against the store's rows (`_ledger`). Moments are
UTC seconds of the campaign's own clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ack:
    """A 202: the sender's id of the event, and the uid that the answer named."""

    id: str
    uid: str
    life: int
    at: float
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that was complete under its name. Every version of a name has its own size."""

    name: str
    size: int
    at: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A request that arrived at the sink: whose work it is (`kind`, `key`), and the Idempotency-Key that it carried."""

    kind: str
    key: str
    idempotency: str
    life: int
    at: float


@dataclass(slots=True)
class Life:
    """One process of the service, from its start to its end.

    `how` is `point`, `random`, `startup`, `term` or `pause`; `point` the armed fail point and `fired` whether it was
    the death; `ready` when it first answered. `pauses` are the (from, until) of SIGSTOP, the lease included. `orphans`
    are children that outlived it.
    """

    number: int
    replica: str
    how: str
    point: str = ""
    started: float = 0.0
    ready: float | None = None
    ended: float | None = None
    exit: int | None = None
    fired: bool = False
    pauses: list[tuple[float, float]] = field(default_factory=list)
    orphans: Sequence[int] = ()

    @property
    def killed(self) -> bool:
        """Say whether it was killed rather than stopped."""
        return self.exit == -9


@dataclass(slots=True)
class History:
    """All that was seen in one campaign. `marks` are the engine keys that started work left behind, one per start.

    `wanted` maps what must be requested at the sink, (kind, key), to the event ids that ask for it. `calm` is when the
    last process was found to have nothing left to do. `let_go` is when a life told that a run's lease was gone, by
    (life, run).
    """

    acks: list[Ack] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    lives: dict[int, Life] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    wanted: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    syncs: tuple[int, int] | None = None
    calm: float | None = None
    let_go: dict[tuple[int, str], list[float]] = field(default_factory=dict)
