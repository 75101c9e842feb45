"""What is wrong with a configuration, as plain values: where, what, and what would be right.

Nothing here reads files. `ConfigProblems` carries every problem of a load at once, in the order of files and lines.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Path = tuple[str | int, ...]  # where in the merged configuration: ("triggers", "chain", "run", 0, "key")

_STEP: Final = re.compile(r"[^.\[\]]+")
_PLAIN_KEY: Final = re.compile(r"[^.\[\]\s:]+")


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file. `line` and `column` count from 1; the file is named as the person named it."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: `message` says what is wrong, `remedy` what would be right (may be empty)."""

    file: str
    line: int
    column: int
    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        what = f"{self.message}, {self.remedy}" if self.remedy else self.message
        return f"{where} {self.path}: {what}" if self.path else f"{where}: {what}"


class ConfigProblems(Exception):
    """The configuration cannot be used; `problems` are all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Report:
    """Collects problems while a configuration is read; the same finding counts once."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}

    def add(self, mark: Mark, path: Path, message: str, remedy: str = "") -> None:
        """Note one finding."""
        problem = Problem(mark.file, mark.line, mark.column, dotted(path), printable(message), printable(remedy))
        self._problems.setdefault(problem)

    def __len__(self) -> int:
        return len(self._problems)

    def sorted(self, files: Sequence[str]) -> list[Problem]:
        """Return the findings by file (in the given order), line and column."""
        order = {file: index for index, file in enumerate(files)}
        return sorted(self._problems, key=lambda p: (order.get(p.file, len(order)), p.line, p.column))

    def raise_if_any(self, files: Sequence[str]) -> None:
        """Raise ConfigProblems when anything was found."""
        if self._problems:
            raise ConfigProblems(self.sorted(files))


def dotted(path: Path) -> str:
    """Return the path as people write it: `triggers.chain.run[0].key`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN_KEY.fullmatch(step) else f'"{printable(step)}"'
            text += f".{name}" if text else name
    return text


def steps(text: str) -> Path:
    """Return the steps of a dotted path, `run[0].key` or `run.0.key`; digits become positions."""
    return tuple(int(step) if step.isdecimal() else step for step in _STEP.findall(text))


def printable(text: str, limit: int = 400) -> str:
    """Return the text fit for one line of a terminal: no control characters, bounded length."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that the person probably meant, None when nothing is near."""
    names = sorted(set(known))
    by_lower = {item.lower(): item for item in names}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def known_names(name: str, known: Iterable[str], *, what: str = "known are") -> str:
    """Return a remedy for an unknown name: the nearest one, else the list (bounded)."""
    names = sorted(set(known))
    near = nearest(name, names)
    if near is not None:
        return f"did you mean `{near}`?"
    if not names:
        return "there is none yet"
    shown = ", ".join(f"`{item}`" for item in names[:20])
    return f"{what} {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
