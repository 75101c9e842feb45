"""What can go wrong with a rule."""


class RuleError(Exception):
    """A rule cannot be used; raised at load. `path` is where in the trigger, `hint` what would be right."""

    def __init__(self, message: str, path: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


class ExpressionError(RuleError):
    """An expression does not compile; `offset` is the character at fault in its text, -1 when unknown."""

    def __init__(self, message: str, path: str = "", hint: str = "", offset: int = -1) -> None:
        super().__init__(message, path, hint)
        self.offset = offset


class EvaluationError(Exception):
    """An expression failed on one event; becomes a visible `error` decision, never a silent false."""
