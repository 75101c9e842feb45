"""What the CEL compiler and runtime complain about, turned into sentences that name the remedy."""

import difflib
import re
from collections.abc import Sequence

from triggers.errors import ExpressionError
from triggers.functions import NAMES

_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n |\nERROR: |\s*\[[A-Z_]+\]\s*$|$)", re.DOTALL)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_NO_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")
_RUN_OVERLOAD = re.compile(r"No matching overloads found : (.*)", re.DOTALL)
_STATUS = re.compile(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$")
_OPERATOR = re.compile(r"^_?(\W+)_?$")
_RUN_OPERATOR = re.compile(r"^_?([^\w(]+)_?\((.*)\)$", re.DOTALL)
_STRINGS = re.compile(r"'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_HAS = re.compile(r"\bhas\s*\(\s*([A-Za-z_]\w*)\s*\.\s*([A-Za-z_]\w*)\s*\)")
_CANNOT_STAND = {
    "item": "`item` exists only in triggers with `each`, and in tasks with `partitions`",
    "events": "`events` exists in batches, joins and tasks; here it is `event`",
    "params": "`params` exists in tasks; here it is `event`",
    "body": "`body` exists in sensors; here it is `event.data`",
    "data": "write event.data",
    "subject": "write event.subject",
    "type": "write event.type",
    "match": "write event.match",
}


def refuse_traps(text: str, names: Sequence[str], path: str) -> None:
    """Refuse what compiles but would not do what it says: NUL characters, and `has()` of a field that always exists."""
    if "\0" in text:
        raise ExpressionError(
            "the expression holds a NUL character", path, "no event with NUL reaches an expression", 0
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExpressionError(
            "the expression holds half of a surrogate pair", path, "write valid Unicode", error.start
        ) from None
    blanked = _STRINGS.sub(lambda found: " " * len(found.group()), text)
    for found in _HAS.finditer(blanked):
        name = f"{found.group(1)}.{found.group(2)}"
        if name in names:
            hint = f"write {name} != null" if name in ("event.subject", "event.time", "event.data") else "leave it out"
            raise ExpressionError(f"{name} always exists, so has({name}) asks nothing", path, hint, found.start())


def compile_complaint(message: str, text: str, names: Sequence[str], path: str) -> ExpressionError:
    """Make an ExpressionError of what the compiler says about `text`, with the offset of its first complaint."""
    found = _ERROR.search(message)
    if found is None:
        words = _STATUS.sub("", message.replace(" [CANCELLED]", "")).strip()
        if "recursion" in words:
            return ExpressionError(
                "the expression is nested too deeply", path, "split it, or move the logic into the pipeline"
            )
        return ExpressionError(words, path)
    offset = _offset(text, int(found.group(1)), int(found.group(2)))
    words = " ".join(found.group(3).split())
    undeclared = _UNDECLARED.search(words)
    if undeclared is not None:
        return _undeclared(undeclared.group(1), text, offset, names, path)
    overload = _NO_OVERLOAD.search(words)
    if overload is not None:
        operator = _OPERATOR.match(overload.group(1))
        types = re.sub(r"wrapper\((\w+)\)", r"\1", overload.group(2))
        name = operator.group(1) if operator else overload.group(1).replace("_?_:_", "? :")
        return ExpressionError(
            f"cannot apply {name} to {types}", path, "convert one side: int(…), double(…), string(…)", offset
        )
    if "recursion depth" in words:
        return ExpressionError(
            "the expression is nested too deeply", path, "split it, or move the logic into the pipeline"
        )
    if words.startswith("Syntax error: mismatched input '<EOF>'"):
        return ExpressionError(
            "the expression ends too early", path, "something is missing after its last character", offset
        )
    return ExpressionError(words.split(" expecting {", 1)[0], path, "", offset)


def _offset(text: str, line: int, column: int) -> int:
    """Turn a line and column (both from 1, in characters) into an offset from 0; -1 when unknown."""
    if line < 1 or column < 1:
        return -1
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return start + column - 1


def _undeclared(name: str, text: str, offset: int, names: Sequence[str], path: str) -> ExpressionError:
    """Name the nearest known name for one that is not."""
    called = text[offset : offset + 1] == "(" or (
        text[offset : offset + 1] == "." and f"{name}(" in text.replace(" ", "")
    )
    if called and "." not in name:
        near = difflib.get_close_matches(name, NAMES, 1, 0.6)
        known = f"did you mean {near[0]}?" if near else "see the expressions page for the functions that exist"
        return ExpressionError(
            f"there is no function {name}", path, known, max(0, text.rfind(name, 0, offset + len(name) + 1))
        )
    head, _, rest = name.partition(".")
    at = text.rfind(head, 0, offset + 1) if offset >= 0 else -1
    at = at if at >= 0 else offset
    fields = sorted({known.partition(".")[2].partition(".")[0] for known in names if known.startswith(f"{head}.")})
    if fields:
        field = rest.partition(".")[0]
        if not field:
            return ExpressionError(
                f"{head} is no value by itself", path, f"name a field of it: {', '.join(fields)}", at
            )
        near = difflib.get_close_matches(field, fields, 1, 0.5)
        hint = f"did you mean {head}.{near[0]}?" if near else f"{head} has {', '.join(fields)}"
        return ExpressionError(f"{head} has no field {field}", path, hint, at)
    heads = sorted({known.partition(".")[0] for known in names})
    near = difflib.get_close_matches(head, heads, 1, 0.6)
    if near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = _CANNOT_STAND.get(head, f"in scope here: {', '.join(heads)}" if heads else "nothing is in scope here")
    return ExpressionError(f"nothing is named {head} here", path, hint, at)


def evaluation_complaint(message: str) -> tuple[str, bool]:
    """Return what went wrong in one evaluation, in words, and whether it is that something is missing."""
    words = _STATUS.sub("", message).strip()
    if words.startswith("Key not found in map : "):
        return f"there is no field {words.removeprefix('Key not found in map : ')}", True
    if words.startswith("Applying SELECT to non-message type"):
        return "a field was read of something that has no fields (null, text or a number)", True
    if words.startswith("Index error"):
        return f"there is no such list element ({words.removeprefix('Index error: ')})", True
    overload = _RUN_OVERLOAD.match(words)
    if overload is not None:
        call = overload.group(1)
        operator = _RUN_OPERATOR.match(call)
        missing = "null_type" in call
        what = f"{operator.group(1)} to ({operator.group(2)})" if operator else call
        return f"cannot apply {what.replace('null_type', 'null').replace('int64', 'int')}", missing
    if "Iteration budget exceeded" in words:
        return "the expression looped over more than 10,000 elements", False
    return words, False
