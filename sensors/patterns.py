"""Path patterns: `orders/dt={day}/**/{name}.parquet`, matched against keys and relative paths that outsiders chose.

In flows pattern text once, out flows a `Pattern`; then names flow in and captures flow out. Matching never backtracks:
each literal is taken at its first place, so the cost is linear in the length of the name whatever the name is.

`{name}` captures one or more characters of one path segment, as few as possible; `*` is any run of characters (also
none) within a segment; `**` as a whole segment is any number of segments (also none). Everything else is itself:
`?` and `[` have no meaning.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_TOKEN = re.compile(r"\{([^{}]*)\}|\*+|[{}]|[^{}*]+")
_ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class _Segment:
    """One path segment: a literal head, then pairs of (capture name or None for `*`, the literal that follows)."""

    head: str
    rest: tuple[tuple[str | None, str], ...]

    def match(self, text: str, captures: dict[str, str]) -> bool:
        """Match the whole of `text`, adding captures (also when the answer is False)."""
        if not self.rest:
            return text == self.head
        if not text.startswith(self.head):
            return False
        at = len(self.head)
        last = len(self.rest) - 1
        for index, (name, literal) in enumerate(self.rest):
            least = at if name is None else at + 1
            if index == last:
                end = len(text) - len(literal)
                if end < least or not text.endswith(literal):
                    return False
            else:
                end = text.find(literal, least)
                if end < 0:
                    return False
            if name is not None:
                captures[name] = text[at:end]
            at = end + len(literal)
        return True


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: the runs of segments between `**`, and the literal start of all that it matches."""

    text: str
    groups: tuple[tuple[_Segment, ...], ...]
    names: tuple[str, ...]
    prefix: str

    def match(self, path: str) -> dict[str, str] | None:
        """Return the captures of a path with `/` between segments, None when it does not match."""
        parts = path.split("/")
        captures: dict[str, str] = {}
        first = self.groups[0]
        if len(self.groups) == 1:
            return captures if len(parts) == len(first) and _run(first, parts, 0, captures) else None
        if len(parts) < sum(map(len, self.groups)) or not _run(first, parts, 0, captures):
            return None
        at = len(first)
        tail = self.groups[-1]
        end = len(parts) - len(tail)
        for group in self.groups[1:-1]:
            while at + len(group) <= end and not _run(group, parts, at, captures):
                at += 1
            if at + len(group) > end:
                return None
            at += len(group)
        return captures if at <= end and _run(tail, parts, end, captures) else None

    def may_hold(self, folder: str) -> bool:
        """Say whether a path below this folder (relative, no trailing slash) could match; False lets a scan skip it."""
        parts = folder.split("/")
        first = self.groups[0]
        if len(self.groups) == 1 and len(parts) >= len(first):
            return False
        return _run(first[: len(parts)], parts, 0, {})


def compile_pattern(text: str) -> Pattern:
    """Compile pattern text. Raises ValueError with a sentence that says what would be right."""
    if not text or text.startswith("/") or text.endswith("/") or "//" in text:
        raise ValueError(f"pattern {text!r} must be a relative path without empty segments, such as 'in/{{day}}.csv'")
    groups: list[list[_Segment]] = [[]]
    names: list[str] = []
    for part in text.split("/"):
        if part == _ANY_DEPTH:
            groups.append([])
        else:
            groups[-1].append(_segment(part, text, names))
    if text.endswith("**"):  # any depth, but below it at least the thing itself
        groups[-1].append(_Segment("", ((None, ""),)))
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"pattern {text!r} captures {{{name}}} twice; give the second one another name")
    prefix = text[: min((i for i in (text.find("{"), text.find("*")) if i >= 0), default=len(text))]
    return Pattern(text, tuple(map(tuple, groups)), tuple(names), prefix)


def _segment(part: str, text: str, names: list[str]) -> _Segment:
    head = ""
    rest: list[tuple[str | None, str]] = []
    for found in _TOKEN.finditer(part):
        token = found[0]
        if token[0] not in "{}*":
            if rest:
                rest[-1] = (rest[-1][0], token)
            else:
                head = token
            continue
        if token in ("{", "}"):
            raise ValueError(f"pattern {text!r} has a lone {token!r}; a capture is written {{name}}")
        if len(token) > 1 and token[0] == "*":
            raise ValueError(f"pattern {text!r}: `**` must be a whole segment, such as 'in/**/{{name}}.csv'")
        if rest and not rest[-1][1]:
            raise ValueError(f"pattern {text!r} needs text between {part[: found.start()][-20:]!r} and {token!r}")
        name = found[1]
        if name is not None:
            if not _NAME.fullmatch(name):
                raise ValueError(f"pattern {text!r}: {{{name}}} is no name; use letters, digits and _")
            names.append(name)
        rest.append((name, ""))
    return _Segment(head, tuple(rest))


def _run(group: Sequence[_Segment], parts: Sequence[str], at: int, captures: dict[str, str]) -> bool:
    return all(segment.match(parts[at + i], captures) for i, segment in enumerate(group))
