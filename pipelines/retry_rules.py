"""Which failures are worth another try: the words of `retry_on` and `never_retry_on`. Pure.

A word is an error kind as runs show it (`timeout`, `crashed`, `memory`, `connect`, …), the name of a Python exception
(`ConnectionError`; a built-in one stands for its subclasses too), a program's exit code (`exit:75`), or an HTTP status
(`http:503`, `http:5xx`).
"""

import builtins
import re
from collections.abc import Sequence

from pipelines.task import TaskDef

_WORD = re.compile(r"(exit:(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])|http:[1-5](\d\d|xx)|[A-Za-z_][A-Za-z0-9_.]{0,127})\Z")


def word_problem(word: str) -> str | None:
    """Say what is wrong with a word; None when it can be used."""
    if _WORD.match(word):
        return None
    return f"{word!r} names no failure: write an error kind, an exception's name, `exit:75`, `http:503` or `http:5xx`"


def worth_retrying(task: TaskDef, kind: str, detail: str | None, *, retryable: bool) -> bool:
    """Say whether a failure is repeated, as far as its kind decides.

    `retry_on` given: only what it names, also what would not be repeated otherwise. `never_retry_on` outranks it.
    """
    if any(_matches(word, kind, detail) for word in task.never_retry_on):
        return False
    if task.retry_on:
        return any(_matches(word, kind, detail) for word in task.retry_on)
    return retryable


def why_not(task: TaskDef, kind: str, detail: str | None) -> str:
    """Return the words that tell that a rule kept a failure from being repeated; empty when none did."""
    shown = detail or kind
    if any(_matches(word, kind, detail) for word in task.never_retry_on):
        return f"not tried again: never_retry_on names {shown}"
    if task.retry_on and not any(_matches(word, kind, detail) for word in task.retry_on):
        return f"not tried again: retry_on names {_listed(task.retry_on)}, not {shown}"
    return ""


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:8])


def _matches(word: str, kind: str, detail: str | None) -> bool:
    if word in (kind, detail):
        return True
    if word.startswith("http:"):
        code = word[5:].replace("x", "")
        return kind.startswith(f"http_{code}") and len(kind) == len("http_000")
    wanted, found = getattr(builtins, word, None), getattr(builtins, kind, None)
    return (
        isinstance(wanted, type)
        and isinstance(found, type)
        and issubclass(wanted, BaseException)
        and issubclass(found, wanted)
    )
