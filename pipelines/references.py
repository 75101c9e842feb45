"""References to secrets and surroundings in text: `${env:NAME}`, `${env:NAME:-default}`, `${file:/path}`.

Text and environment in, text out. A reference is replaced once: what it brings is never looked at again. `$${env:` is
the text `${env:`. The configuration resolves them at load; the options of tasks keep theirs as written, because a run
stores its definition, and `resolved` fills them in before templates are evaluated (never after: then an event's data
could name a secret).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, Literal

MAX_FILE_BYTES: Final = 65_536

_REFERENCE: Final = re.compile(r"(\$?)\$\{(env|file):([^{}]*)\}")
_OPENED: Final = re.compile(r"(?<!\$)\$\{(?:env|file):")
_WHOLE: Final = re.compile(r"(env|file):(\S(?:.*\S)?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class BadReference(ValueError):
    """A reference that names nothing usable; `hint` says what would be right. Never holds a secret's value."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: an environment variable with an optional default, or a file."""

    scheme: Literal["env", "file"]
    name: str
    default: str | None = None

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"


Find = Callable[[Reference], str]


def has_reference(text: str) -> bool:
    """Say whether the text holds at least one reference."""
    return "${" in text and any(not found[1] for found in _REFERENCE.finditer(text))


def whole_reference(text: str) -> Reference | None:
    """Read `env:NAME` or `file:/path` as they stand alone in secret-typed fields; None for anything else."""
    found = _WHOLE.fullmatch(text)
    return None if found is None else _read(found[1], found[2])


def replaced(text: str, find: Find, *, template: bool = False) -> str:
    """Return the text with every reference replaced by what `find` brings; raises BadReference.

    `template`: the text will be evaluated as a template afterwards, so a `${{` that a value brings is escaped.
    """
    if "${" not in text:
        return text
    closed = sum(1 for found in _REFERENCE.finditer(text) if not found[1])
    if len(_OPENED.findall(text)) > closed:
        raise BadReference(
            "a `${env:` or `${file:` is not closed", "end it with `}`; write `$${env:` for the text itself"
        )

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        value = find(_read(found[2], found[3]))
        return value.replace("${{", "$${{") if template else value

    return _REFERENCE.sub(one, text)


def finder(environ: Mapping[str, str], base: Path) -> Find:
    """Return what looks references up: variables in `environ`, relative files beside `base`. Raises BadReference."""

    def find(reference: Reference) -> str:
        if reference.scheme == "file":
            return _read_file(base / reference.name, reference)
        value = environ.get(reference.name)
        if reference.default is not None:
            return value or reference.default
        if value is None:
            raise BadReference(
                f"the environment variable {reference.name} is not set",
                f"set it, or give a default: ${{env:{reference.name}:-default}}",
            )
        return value

    return find


def resolved(value: Any, find: Find, *, template: bool = False) -> Any:
    """Return a JSON value with the references in all its texts replaced (keys are left alone); raises BadReference."""
    if isinstance(value, str):
        return replaced(value, find, template=template)
    if isinstance(value, Mapping):
        return {key: resolved(item, find, template=template) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(item, find, template=template) for item in value]
    return value


def _read(scheme: str, rest: str) -> Reference:
    if scheme == "file":
        if not rest or "\0" in rest:
            raise BadReference("a `file:` reference names no file", "write ${file:/run/secrets/name}")
        return Reference("file", rest)
    name, separator, default = rest.partition(":-")
    if not _NAME.fullmatch(name):
        raise BadReference("an `env:` reference names no variable", "write ${env:NAME} or ${env:NAME:-default}")
    return Reference("env", name, default if separator else None)


def _read_file(path: Path, reference: Reference) -> str:
    try:
        regular = S_ISREG(path.stat().st_mode)
        if regular:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        else:  # a pipe or device could block, or never end
            data = b""
    except OSError as error:
        raise BadReference(
            f"the file {reference.name} cannot be read ({error.strerror})", "make it readable"
        ) from error
    if not regular:
        raise BadReference(f"{reference.name} is no regular file", "name the file that holds the secret")
    if len(data) > MAX_FILE_BYTES:
        raise BadReference(f"the file {reference.name} is larger than 64 KiB", "name the file that holds the secret")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadReference(f"the file {reference.name} is not UTF-8 text", "store the secret as text") from error
    return text.removesuffix("\n").removesuffix("\r")
