"""Which keys are markers or manifests, and which of them a file waits for. Pure.

In flow keys that outsiders chose; out flow captures, folders, and the keys of what completes a file. A name without a
slash lies in the folder that it completes; a text with one is a whole key.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Final

from sensors.adapters.completeness_options import FILE, key_pattern
from sensors.event import storable_text
from sensors.patterns import Pattern, compile_pattern

DEEPEST: Final = 16  # how many folders above a file may hold what completes it
_CAPTURE = re.compile(r"\{([^{}]*)\}")


class Marks:
    """Knows the markers or manifests of one sensor, by name or template.

    `pattern` is that of the files. `above`: they complete what lies in folders below theirs too.
    """

    def __init__(self, template: str, pattern: Pattern | None, ignore: Sequence[str], *, above: bool) -> None:
        self._template = template
        self._above = above
        self._anywhere = "/" not in template
        self._names = dict.fromkeys(_CAPTURE.findall(template))
        self._starred = "*" in template
        self._own = key_pattern(template)
        self._pattern = pattern
        self._ignores = re.compile("|".join(map(fnmatch.translate, ignore)) or r"(?!)")
        literal = pattern.prefix if pattern is not None else ""
        self._within = literal[: literal.rfind("/") + 1]  # the folder in which all files are

    @property
    def prefix(self) -> str:
        """Return the literal text with which the keys of all marks begin: what a listing must not leave out."""
        return self._within if self._anywhere else self._own.prefix

    def match(self, key: str) -> Mapping[str, str] | None:
        """Return the captures of a marker's or manifest's key; None when it is none that could complete a file."""
        captures = self._own.match(key)
        if captures is None or not key or key.endswith("/") or not storable_text(key):
            return None
        folder = key[: key.rfind("/") + 1]
        if folder and any(self._ignores.match(name) for name in folder[:-1].split("/")):
            return None
        if self._anywhere and not self._completes(folder):
            return None
        captures = {name: captures[name] for name in self._names}
        filled = key if self._starred else self.fill(captures)
        return captures if (key == filled or (self._anywhere and key == folder + filled)) else None

    def of_file(self, key: str) -> Sequence[str]:
        """Return the keys of what completes a file, nearest first; of the folders above, 16 at most."""
        captures = (self._pattern.match(key) if self._pattern is not None else None) or {}
        filled = self.fill({FILE: key.rpartition("/")[2], **captures})
        if not self._anywhere:
            return [filled]
        found: list[str] = []
        folder = key[: key.rfind("/") + 1]
        while len(found) < DEEPEST and self._completes(folder):
            found.append(folder + filled)
            if not self._above or not folder:
                break
            folder = folder[: folder.rfind("/", 0, -1) + 1]
        return found

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the template with its captures filled in."""
        return _CAPTURE.sub(lambda found: values[found[1]], self._template)

    def _completes(self, folder: str) -> bool:
        if not folder.startswith(self._within):
            return False
        return not folder or self._pattern is None or self._pattern.may_hold(folder[:-1])


def folder_captures(pattern: Pattern | None, folder: str) -> Mapping[str, str]:
    """Return what a pattern captures in the segments of a folder (ending in `/`), as far as it says so by depth."""
    if pattern is None or not folder:
        return {}
    parts = folder[:-1].split("/")
    texts = pattern.text.split("/")
    fixed = texts.index("**") if "**" in texts else len(texts) - 1
    depth = min(len(parts), fixed)
    if depth == 0:
        return {}
    return compile_pattern("/".join(texts[:depth])).match("/".join(parts[:depth])) or {}
