"""What can go wrong with a rule, at load (RuleError) and on one event (EvaluationError).

RuleError               a rule cannot be used
└── ExpressionError     its CEL does not compile
EvaluationError         an expression failed on one event: a visible `error` decision
├── MissingField        because a field is absent (false instead, with `missing_field: false`)
└── Unreadable          because nothing may read this event: it goes to the dead letters
"""


class RuleError(Exception):
    """A rule cannot be used; raised at load. `path` is where in the trigger, `hint` what would be right.

    `trigger` is the trigger's name where it is known.
    """

    def __init__(self, message: str, path: str = "", hint: str = "", trigger: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint
        self.trigger = trigger


class ExpressionError(RuleError):
    """An expression does not compile; `offset` is the character at fault in its text, -1 when unknown."""

    def __init__(self, message: str, path: str = "", hint: str = "", offset: int = -1) -> None:
        super().__init__(message, path, hint)
        self.offset = offset


class EvaluationError(Exception):
    """An expression failed on one event; becomes a visible `error` decision, never a silent false."""


class MissingField(EvaluationError):
    """An expression read a field, key or element that the event does not have (or that is null)."""


class Unreadable(EvaluationError):
    """The event holds text that no expression can read truthfully, or content that is not what its type says."""
