"""Fenced code blocks of the documents: language, the words after it, text, and where it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```([a-z]+)?([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block. `mark` is what follows the language, such as `fragment`."""

    file: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Return all documents that readers are sent to."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    ]


def blocks(*languages: str) -> Iterator[Block]:
    """Yield the blocks in one of these languages."""
    for file in documents():
        text = file.read_text()
        for found in _FENCE.finditer(text):
            language, mark, inside = found[1] or "", found[2].strip(), found[3]
            if language in languages:
                yield Block(file, text.count("\n", 0, found.start()) + 1, language, mark, inside)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (place, words) of every `tidegate …` line of the shell blocks; comments and redirections are left out."""
    import shlex

    for block in blocks("sh", "console"):
        for offset, raw in enumerate(block.text.splitlines(), 1):
            line = raw.removeprefix("$ ").strip()
            if block.language == "console" and not raw.startswith("$ "):
                continue
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words and words[0].rpartition("/")[2] == "tidegate":
                yield f"{block.name}+{offset}", words[1:]
