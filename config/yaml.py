"""YAML 1.2 with positions: text in, a tree of nodes out, every node and key with its place in the file.

Built from parser events, so that nothing is ever constructed but text, numbers, booleans, null, lists and maps. Keys
are always text. `on`, `NO` and `10:30` are text (core schema of YAML 1.2). Bounds on bytes, nodes, depth and on what
aliases expand to are checked while reading; an alias shares its anchor's node, so a refused bomb was never expanded.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from config.problems import Mark, Path, Report

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_NODES: Final = 400_000  # of one file, with aliases expanded
MAX_DEPTH: Final = 48
MAX_ALIASES: Final = 5_000

_INT: Final = re.compile(r"[-+]?[0-9]{1,40}", re.ASCII)
_OCTAL: Final = re.compile(r"0o[0-7]{1,40}", re.ASCII)
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,40}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: `value` as YAML 1.2 reads it, `text` as written."""

    mark: Mark
    value: Any
    text: str
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    mark: Mark
    items: tuple["Node", ...]
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map with its own place, and its value."""

    mark: Mark
    node: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    """A map with text keys, in the order of the file."""

    mark: Mark
    entries: dict[str, Entry]
    size: int = 1
    depth: int = 1


Node = Scalar | Items | Table


class Refused(Exception):
    """The text cannot be read as configuration."""

    def __init__(self, mark: Mark, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.remedy = remedy


def read_yaml(data: bytes, file: str, report: Report) -> Table | None:
    """Return the map that the text holds, None when it is unreadable; everything wrong goes into `report`.

    Doubled keys are reported and the later one is taken, so that the rest can still be checked. An empty text is an
    empty map.
    """
    start = Mark(file, 1, 1)
    try:
        node = _Composer(_decoded(data, file), file, report).document()
    except Refused as refused:
        report.add(refused.mark, (), refused.message, refused.remedy)
        return None
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return Table(start, {})
    if not isinstance(node, Table):
        report.add(node.mark, (), "a configuration is a map", "write sections such as `sensors:` at the top level")
        return None
    return node


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise Refused(Mark(file, 1, 1), "the file is larger than 4 MiB", "split it up")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise Refused(
            Mark(file, before.count(b"\n") + 1, column), "not UTF-8 text", "save the file as UTF-8"
        ) from error


class _Composer:
    """Turns the events of one file into nodes; used once."""

    def __init__(self, text: str, file: str, report: Report) -> None:
        self._text = text
        self._file = file
        self._report = report
        self._events = self._parsed()
        self._anchors: dict[str, Node | None] = {}  # None while the anchored node is still open
        self._nodes = 0
        self._aliases = 0

    def document(self) -> Node | None:
        node: Node | None = None
        documents = 0
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise Refused(self._mark(event), "a second document in one file", "split the file at `---`")
                if event.version not in {None, (1, 2)}:
                    raise Refused(self._mark(event), "only YAML 1.2 is read", "leave the %YAML line out")
            elif not kind.startswith(("Stream", "Document")):
                node = self._node(event, 1, ())
        return node

    def _parsed(self) -> Iterator[Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
        from ruamel.yaml.reader import ReaderError

        try:
            yield from YAML(typ="safe", pure=True).parse(io.StringIO(self._text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Mark(self._file, mark.line + 1, mark.column + 1) if mark is not None else Mark(self._file, 1, 1)
            raise Refused(place, *_explained(error.problem or "", error.context or "", self._at(place))) from error
        except ReaderError as error:
            before = self._text[: error.position] if isinstance(error.position, int) else ""
            place = Mark(self._file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise Refused(place, "a control character that YAML does not allow", "remove it, or escape it") from error
        except YAMLError as error:
            raise Refused(Mark(self._file, 1, 1), "not readable as YAML") from error

    def _at(self, place: Mark) -> str:
        lines = self._text.split("\n")
        line = lines[place.line - 1] if place.line <= len(lines) else ""
        return line[place.column - 1 : place.column]

    def _mark(self, event: Any) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _next(self) -> Any:
        return next(self._events)

    def _node(self, event: Any, level: int, path: Path) -> Node:
        kind = type(event).__name__
        mark = self._mark(event)
        if kind == "AliasEvent":
            return self._aliased(event.anchor, level, mark)
        self._count(1, level, mark)
        anchor: str | None = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        node: Node
        if kind == "ScalarEvent":
            node = self._scalar(event, mark)
        elif kind == "SequenceStartEvent":
            self._untagged(event, mark, "tag:yaml.org,2002:seq")
            node = self._items(level, mark, path)
        else:
            self._untagged(event, mark, "tag:yaml.org,2002:map")
            node = self._table(level, mark, path)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _aliased(self, anchor: str, level: int, mark: Mark) -> Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise Refused(mark, f"more than {MAX_ALIASES} aliases", "write the values out, or use `defaults:`")
        if anchor not in self._anchors:
            raise Refused(mark, f"`*{anchor}` has no anchor before it", f"mark the value with `&{anchor}` first")
        node = self._anchors[anchor]
        if node is None:
            raise Refused(mark, f"`*{anchor}` contains itself", "an alias may not stand inside its own anchor")
        self._count(node.size, level + node.depth - 1, mark)
        return node

    def _count(self, nodes: int, level: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise Refused(mark, f"more than {MAX_NODES} values (aliases expanded)", "nest aliases less, split the file")
        if level > MAX_DEPTH:
            raise Refused(mark, f"nested deeper than {MAX_DEPTH} levels", "write it flatter")

    def _untagged(self, event: Any, mark: Mark, allowed: str) -> None:
        tag = str(event.tag) if event.tag is not None else None
        if tag not in {None, "None", "!", allowed}:
            shown = str(tag).replace("tag:yaml.org,2002:", "!!")
            raise Refused(mark, f"the tag `{shown}` is not available", "leave it out: configuration holds plain values")

    def _scalar(self, event: Any, mark: Mark) -> Scalar:
        self._untagged(event, mark, "tag:yaml.org,2002:str")
        text: str = event.value
        plain = event.style is None and bool(event.implicit[0])
        return Scalar(mark, _plain_value(text) if plain else text, text)

    def _items(self, level: int, mark: Mark, path: Path) -> Items:
        items: list[Node] = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            items.append(self._node(event, level + 1, (*path, len(items))))
        return Items(mark, tuple(items), *_measure(items))

    def _table(self, level: int, mark: Mark, path: Path) -> Table:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        merge_at: Mark | None = None
        while type(event := self._next()).__name__ != "MappingEndEvent":
            at = self._mark(event)
            if type(event).__name__ != "ScalarEvent":
                raise Refused(at, "a key is a list, a map or an alias", "keys are plain text")
            self._untagged(event, at, "tag:yaml.org,2002:str")
            self._count(1, level, at)
            key: str = event.value
            node = self._node(self._next(), level + 1, (*path, key))
            if key == "<<" and event.style is None:
                if merge_at is not None:
                    self._doubled(at, merge_at, (*path, key))
                merge_at = at
                for name, entry in _merge_sources(node, at):
                    merged.setdefault(name, entry)
            else:
                if key in entries:
                    self._doubled(at, entries[key].mark, (*path, key))
                entries[key] = Entry(at, node)
        whole = entries | {name: entry for name, entry in merged.items() if name not in entries}
        return Table(mark, whole, *_measure([entry.node for entry in whole.values()]))

    def _doubled(self, again: Mark, first: Mark, path: Path) -> None:
        where = f"line {first.line}, column {first.column}"
        self._report.add(again, path, f"the key stands here for the second time (first: {where})", "keep one of them")


def _measure(nodes: list[Node]) -> tuple[int, int]:
    return 1 + sum(node.size for node in nodes), 1 + max((node.depth for node in nodes), default=0)


def _merge_sources(node: Node, mark: Mark) -> Iterator[tuple[str, Entry]]:
    for source in node.items if isinstance(node, Items) else (node,):
        if not isinstance(source, Table):
            raise Refused(mark, "`<<` merges maps only", "write `<<: *anchor` of a map, or a list of such")
        yield from source.entries.items()


def _plain_value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and len(text) <= 64:
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


def _explained(problem: str, context: str, char: str) -> tuple[str, str]:
    """Return message and remedy in the words of the person who wrote the file."""
    if char == "\t" or "'\\t'" in problem:
        return "a tab cannot indent YAML", "use spaces"
    if "mapping values are not allowed" in problem:
        return "a `:` where no key can stand", "quote the text, or put the key on its own line"
    if char in {"@", "`", "%"}:
        return f"a plain text cannot start with `{char}`", "quote it"
    if char == "*" or "alias" in context:
        return "not a valid alias", "quote a text that starts with `*`"
    if "quoted scalar" in context:
        return "a quoted text is not closed", "close the quotes"
    if "flow" in context:
        return "a `[` or `{` is not closed, or a comma is missing", "close it"
    if "block" in context or "simple key" in context:
        return (
            f"not readable as YAML here ({problem or context})",
            "check the indentation and the `:` of the lines above",
        )
    return f"not readable as YAML ({problem or context})", ""
