"""Keys that are made of other keys: `archive/{%Y-%m-%d}/{name}`, and whether such a key could be one that is watched.

In flows template text once, out flow keys. What a template can make is compared with what a pattern can match by
walking both as automata over characters, so the answer is exact but for one thing: it is asked of all texts, also of
those that no listing would hold. Pure.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from sensors.patterns import Pattern

WORDS: Final = ("key", "name", "file")  # the whole key; its last segment, under two names
MAX_KEY: Final = 1024  # bytes, as everywhere in object storage
_DIGITS: Final = "0123456789"
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Run = Literal["one", "segment", "digits", "any"]  # one character but /; any number of those, of digits, of any
Glob = Sequence[str | Run]  # a character stands for itself; the names of runs are longer than one
_OTHER: Final = "\ue000"  # stands for all characters that are named nowhere
_DIRECTIVE: Final = re.compile(r"%[-_0]?(.)", re.DOTALL)
_NUMBERS: Final = "YmdHMSjyIuwUWVGCsf"  # directives that make digits


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: literals and fields by turns, beginning and ending with a literal."""

    text: str
    literals: Sequence[str]
    fields: Sequence[str]

    def fill(self, key: str, captures: Mapping[str, str], now: int) -> str:
        """Return the key for an object; dates are those of `now` (UTC micros). A capture goes before a word.

        `_` stands for a capture that the object does not have.
        """
        name = key.rpartition("/")[2]
        known = {"key": key, "name": name, "file": name, **captures}
        out = [self.literals[0]]
        for field, literal in zip(self.fields, self.literals[1:], strict=True):
            out += (_date(field, now) if field.startswith("%") else known.get(field) or "_", literal)
        return "".join(out)

    @property
    def folders(self) -> Sequence[str]:
        """Return the segments that are the same for every object, but for the last."""
        segments = "\0".join(self.literals).split("/")
        return [segment for segment in segments[:-1] if "\0" not in segment]

    def glob(self, captures: Collection[str]) -> Glob:
        """Return what the template can make, for objects whose pattern captures these names."""
        out: list[str | Run] = [*self.literals[0]]
        for field, literal in zip(self.fields, self.literals[1:], strict=True):
            if field.startswith("%"):
                out += _date_glob(field)
            else:
                out += ("any",) if field == "key" and field not in captures else ("one", "segment")
            out += literal
        return out


def compile_template(text: str, captures: Collection[str]) -> Template:
    """Compile template text over these captures. Raises ValueError with a sentence that says what would be right."""
    if not text or text.startswith("/") or text.endswith("/") or "//" in text:
        raise ValueError(f"{text!r} must be a key without empty segments, such as 'archive/{{key}}'")
    if "\0" in text or len(text.encode(errors="replace")) > MAX_KEY:
        raise ValueError(f"{text[:100]!r} is no key: it has a NUL or more than {MAX_KEY} bytes")
    literals: list[str] = []
    fields: list[str] = []
    end = 0
    for found in _FIELD.finditer(text):
        literals.append(text[end : found.start()])
        fields.append(found[1])
        end = found.end()
    literals.append(text[end:])
    for literal in literals:
        if "{" in literal or "}" in literal:
            raise ValueError(f"{text!r} has a lone brace; a field is written {{key}}")
    for field in fields:
        if not field.startswith("%") and field not in captures and field not in WORDS:
            known = ", ".join(f"{{{name}}}" for name in (*WORDS, *sorted(set(captures) - {*WORDS})))
            raise ValueError(
                f"{text!r} names {{{field}}}, which is not known; there are {known} and dates: {{%Y-%m-%d}}"
            )
    return Template(text, literals, fields)


def watched_glob(prefix: str, pattern: Pattern | None) -> Sequence[Glob]:
    """Return what keys below a prefix (with dates in braces) that match a pattern can be: all of these at once."""
    out: list[str | Run] = []
    end = 0
    for found in _FIELD.finditer(prefix):
        out += [*prefix[end : found.start()], *_date_glob(found[1])]
        end = found.end()
    globs: list[Glob] = [[*out, *prefix[end:], "any"]]
    if pattern is not None:
        globs.append(_pattern_glob(pattern.text))
    return globs


def _pattern_glob(text: str) -> Glob:
    out: list[str | Run] = []
    segments = text.split("/")
    for n, segment in enumerate(segments):
        last = n == len(segments) - 1
        if segment == "**":
            out.append("any")  # and the slash behind it, of which there is none where it stands for nothing
            continue
        at = 0
        for found in re.finditer(r"\{[^{}]*\}|\*", segment):
            out += segment[at : found.start()]
            out += ("segment",) if found[0] == "*" else ("one", "segment")
            at = found.end()
        out += segment[at:]
        out += () if last else ("/",)
    return out


def meet(globs: Sequence[Glob]) -> bool:
    """Say whether there is a text that all of these match."""
    letters = {char for glob in globs for char in glob if len(char) == 1} | {"/", "0", _OTHER}
    start = tuple(_rest(glob, (0,)) for glob in globs)
    known = {start}
    todo = [start]
    while todo:
        places = todo.pop()
        if all(len(glob) in place for glob, place in zip(globs, places, strict=True)):
            return True
        for char in letters:
            following = tuple(_step(glob, place, char) for glob, place in zip(globs, places, strict=True))
            if all(following) and following not in known:
                known.add(following)
                todo.append(following)
    return False


def _step(glob: Glob, places: Iterable[int], char: str) -> frozenset[int]:
    reached = []
    for place in places:
        atom = glob[place] if place < len(glob) else ""
        if atom == "any" or (atom == "segment" and char != "/") or (atom == "digits" and char in _DIGITS):
            reached.append(place)
        elif atom == char or (atom == "one" and char != "/"):
            reached.append(place + 1)
    return _rest(glob, reached)


def _rest(glob: Glob, places: Iterable[int]) -> frozenset[int]:
    """Return these places and those behind the runs that may be empty."""
    found = set()
    for place in places:
        at = place
        found.add(at)
        while at < len(glob) and glob[at] in ("any", "segment", "digits"):
            at += 1
            found.add(at)
    return frozenset(found)


def _date_glob(field: str) -> Glob:
    out: list[str | Run] = []
    end = 0
    for found in _DIRECTIVE.finditer(field):
        out += field[end : found.start()]
        out.append("digits" if found[1] in _NUMBERS else "any")
        end = found.end()
    return [*out, *field[end:]]


def _date(field: str, now: int) -> str:
    return (_EPOCH + timedelta(microseconds=now)).strftime(field)
