"""Conditions and lists of partitions: CEL that stands in a task, compiled once and checked at load.

In flows the text of `when` or `partitions`, out flows a function of a scope of `CONDITION_SCOPE`. It is evaluated when
everything that the task needs has ended, once; what it decides is durable with the step that follows.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

CONDITION_SCOPE: Final = ("params", "partition", "run", "events", "tasks")
SLICE_SCOPE: Final = (*CONDITION_SCOPE, "item")

Evaluate = Callable[[Mapping[str, Any]], Any]


def compile_condition(text: str) -> Evaluate:
    """Compile an expression. Raises triggers.errors.ExpressionError; the function raises its EvaluationError."""
    from triggers.template import compile_function

    return compile_function(text, CONDITION_SCOPE)
