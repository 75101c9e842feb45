"""A query as people write it, with `:high` in it, cut where the value will be put in.

In flows the text, out flows a `Statement`: pieces of SQL and the names between them, from which a driver makes its own
placeholders. Values never become text. Strings, quoted names, comments and `::` casts are passed over.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

HIGH: Final = "high"
_TOKEN: Final = re.compile(
    r"""
      (?P<skip> [eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | ::
              | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ )
    | (?P<open> /\* | ['"`] | \$(?:[A-Za-z_]\w*)?\$ )
    | : (?P<name> [A-Za-z_]\w* )
    | (?P<end> ; )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
_FIRST: Final = re.compile(r"[A-Za-z]+")
_CUTS: Final = re.compile(r"[()]|\blimit\b|\boffset\b|\bfetch\s+(?:first|next)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query in pieces; between each two of them stands `:high`."""

    pieces: Sequence[str]

    def text(self, placeholder: Callable[[], str]) -> str:
        """Return the query with a placeholder for each `:high`."""
        return "".join([self.pieces[0], *(placeholder() + piece for piece in self.pieces[1:])])


def read_statement(text: str) -> Statement:
    """Cut a query. Raises ValueError with a sentence for what is no single query with `:high` in it."""
    pieces = [""]
    code = ""  # the query without comments, strings and quoted names
    at, ended = 0, -1
    while (found := _TOKEN.search(text, at)) is not None:
        plain = text[at : found.start()]
        pieces[-1] += plain
        code += plain + " "
        at = found.end()
        if (opened := found["open"]) is not None:
            if opened != "/*":
                raise ValueError(f"`query`: a {opened} is not closed; close it")
            at = _after_comment(text, at)
            pieces[-1] += " "
        elif found["end"]:
            ended = len(code) if ended < 0 else ended
        elif found["name"] is None:
            pieces[-1] += found[0]
        elif found["name"] == HIGH:
            pieces.append("")
        else:
            raise ValueError(
                f"`query`: there is no parameter :{found['name']}, only :high; a colon in a slice needs a space behind"
            )
    pieces[-1] += text[at:]
    code += text[at:]
    _check(code, ended)
    if len(pieces) == 1:
        raise ValueError(
            "`query`: it does not use :high, so every look would read everything; write `where updated_at >= :high`"
        )
    return Statement(pieces)


def _check(code: str, ended: int) -> None:
    """Refuse what is no single query, and what would cut its answer: the pages are made around it."""
    if ended >= 0 and code[ended:].strip():
        raise ValueError("`query`: it is more than one statement; write a single select")
    first = _FIRST.search(code)
    if first is None or first[0].lower() not in ("select", "with", "table", "values"):
        raise ValueError("`query`: it must begin with select or with; a sensor only reads")
    depth = 0
    for found in _CUTS.finditer(code):
        if found[0] in "()":
            depth += 1 if found[0] == "(" else -1
        elif depth == 0:
            raise ValueError(f"`query`: take out {found[0].lower()}; rows come page by page anyway (`page_size`)")


def _after_comment(text: str, at: int) -> int:
    """Return where a comment ends that began before `at`; comments nest."""
    depth = 1
    while depth:
        found = _COMMENT.search(text, at)
        if found is None:
            raise ValueError("`query`: a comment is not closed; close it with */")
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at


def quoted(name: str) -> str:
    """Return a name as SQL takes it, exactly as it is."""
    return '"' + name.replace('"', '""') + '"'


def table_query(table: str, columns: Sequence[str], high: str) -> str:
    """Return the query for a table: all of it, or these columns, from `:high` on."""
    wanted = ", ".join(quoted(column) for column in columns) or "*"
    place = ".".join(quoted(part) for part in table.split("."))
    return f"select {wanted} from {place} where {quoted(high)} >= :high"
