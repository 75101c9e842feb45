"""Where a listing of an ADLS prefix is, as a token. Pure.

The service lists folders, deep or flat, while a prefix may end within a name: `events/dt=2026-01` means the folders and
files of `events` that begin with `dt=2026-01`. Such a prefix is walked: the level first, then the folders that fit, if
they are few. Where they are many, the whole level is listed deep and filtered, which takes fewer calls.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

FEW: Final = 16


@dataclass(frozen=True, slots=True)
class Walk:
    """What is listed next. `folder` has no `/` at the end; `token` continues its listing.

    While a level is walked, `level` is its folder (None: no level is), `rest` the token of the level's next page, and
    `folders` those of its folders that are still to be listed.
    """

    folder: str
    deep: bool
    token: str | None = None
    level: str | None = None
    rest: str | None = None
    folders: tuple[str, ...] = ()

    @staticmethod
    def begin(prefix: str) -> "Walk":
        """Return where the listing of a prefix begins."""
        folder, _, name = prefix.rpartition("/")
        return Walk(folder, deep=not name, level=folder if name else None)

    def next(self, more: str | None, folders: Sequence[str]) -> tuple[str | None, bool]:
        """Return the token after a page, None at the end, and whether the page counts.

        `more` continues what was listed, `folders` are the fitting folders of a level's page.
        """
        if self.level is None or (self.deep and more is not None):
            return (None if more is None else replace(self, token=more).to_json()), True
        if not self.deep:
            if self.token is None and len(folders) > FEW:
                return Walk(self.level, deep=True).to_json(), False
            return self._on(more, tuple(folders)), True
        return self._on(self.rest, self.folders), True

    def _on(self, rest: str | None, folders: tuple[str, ...]) -> str | None:
        if folders:
            return Walk(folders[0], deep=True, level=self.level, rest=rest, folders=folders[1:]).to_json()
        if rest is not None:
            return Walk(self.level or "", deep=False, token=rest, level=self.level).to_json()
        return None

    def to_json(self) -> str:
        """Return the token."""
        value = [self.folder, self.deep, self.token, self.level, self.rest, self.folders]
        return json.dumps(value, separators=(",", ":"))


def read_walk(token: str) -> Walk | None:
    """Read a token; None when it is none."""
    try:
        folder, deep, more, level, rest, folders = json.loads(token)
    except (ValueError, TypeError):
        return None
    texts = [folder, *(text for text in (more, level, rest) if text is not None)]
    if not isinstance(folders, list) or not all(isinstance(text, str) for text in [*texts, *folders]):
        return None
    return Walk(folder, bool(deep), more, level, rest, tuple(folders))


def level_of(entries: Sequence[Any], prefix: str, after: str) -> tuple[list[Any], list[str]]:
    """Return the files and the names of the folders among a page's entries that fit a prefix."""
    fitting = [item for item in entries if item.name.startswith(prefix)]
    files = [item for item in fitting if not item.is_directory and item.name > after]
    return files, sorted(item.name for item in fitting if item.is_directory)
