"""The options that say when objects are complete, and which of their combinations make sense. Pure.

In flows configuration, out flow options whose templates are known to fit the pattern; what does not is refused with a
sentence that says what would be right.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from sensors.adapters.object_options import ObjectOptions
from sensors.patterns import Pattern, compile_pattern
from sensors.units import Duration

FILE: Final = "file"
_CAPTURE = re.compile(r"\{([^{}]*)\}")
_STARS = re.compile(r"\*+")


class Polls(BaseModel):
    """Complete when so many scans after the first have shown the object unchanged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    polls: int = Field(ge=1, le=1000, description="scans, at least half of `every` apart")


def _settle_form(value: Any) -> str:
    return "polls" if isinstance(value, Mapping | Polls) else "time"


Settle = Annotated[
    Annotated[Duration, Tag("time")] | Annotated[Polls, Tag("polls")],
    Discriminator(_settle_form),
]


class ManifestOptions(BaseModel):
    """A file that lists the files that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="its key, as a pattern: orders/{day}/manifest.json; without a slash: in any folder")
    files: str | None = Field(None, description="CEL over body: the list of paths; without it, one path per line")
    base: Literal["manifest", "bucket"] = Field("manifest", description="what the listed paths are relative to")
    within: Duration = Field(21_600.0, gt=0, description="when files are still missing after this time, it is overdue")

    @field_validator("name")
    @classmethod
    def _compiles(cls, value: str) -> str:
        key_pattern(value)
        return value

    @property
    def pattern(self) -> Pattern:
        """Return what matches the keys of manifests."""
        return key_pattern(self.name)


class CompletenessOptions(ObjectOptions):
    """When objects are complete; by default as soon as they are seen, since most storage shows them only whole."""

    settle: Settle = Field(
        0.0, description="how long an object must not have changed, or {polls: N}: in how many more scans"
    )
    marker: str | None = Field(
        None,
        min_length=1,
        description="an object that says so: _SUCCESS for its folder, or {name}.done, over the captures of `pattern` "
        "and {file} (the last segment of the key), for one file; without a slash it lies beside the file",
    )
    manifest: ManifestOptions | None = None
    emit: Literal["set", "file"] | None = Field(
        None, description="one event for the set (by default, where there are sets), or one for each file"
    )

    @property
    def emits_sets(self) -> bool:
        """Say whether a set is one event."""
        if self.emit is not None:
            return self.emit == "set"
        return self.manifest is not None or (self.marker is not None and not has_captures(self.marker))

    @model_validator(mode="after")
    def _fits(self) -> "CompletenessOptions":
        settles = isinstance(self.settle, Polls) or self.settle > 0
        given = [name for name, is_there in (("marker", self.marker), ("manifest", self.manifest)) if is_there]
        given += ["settle"] if settles else []
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` both say when objects are complete; leave one of them out")
        if given and getattr(self, "versions", False):  # an option of some kinds
            raise ValueError(f"`versions` tells of every version as soon as it is there; leave it or `{given[0]}` out")
        if self.emit is not None and self.marker is None and self.manifest is None:
            raise ValueError("`emit` needs a `marker` or a `manifest`; without them each file is an event")
        pattern = compile_pattern(self.pattern) if self.pattern is not None else None
        if self.marker is not None:
            _check_marker(self.marker, self.emit, pattern)
            self._check_reach("marker", self.marker)
        if self.manifest is not None:
            self._check_reach("manifest.name", self.manifest.name)
        if self.manifest is not None and self.emit == "file":
            _check_captures("manifest.name", self.manifest.name, pattern, set(), "with `emit: file` ")
        return self

    def _check_reach(self, field: str, template: str) -> None:
        """Refuse what lies where nothing is listed."""
        literal = self.prefix.partition("{%")[0]
        own = key_pattern(template).prefix
        if not (own.startswith(literal) or literal.startswith(own)):
            raise ValueError(f"`{field}` {template!r} lies outside of `prefix` {self.prefix!r}, where nothing is seen")


def key_pattern(text: str) -> Pattern:
    """Return the pattern of the keys that a name or template can mean. Raises ValueError, as for patterns.

    A text without a slash may be in any folder. Without a `*`, a capture may occur more than once; the others are then
    known as `name_2` and so on, and whoever asks compares them.
    """
    captures: set[str] = set()

    def unique(found: "re.Match[str]") -> str:
        name = found[1]
        if name not in captures:
            captures.add(name)
            return found[0]
        n = 2
        while f"{name}_{n}" in captures:
            n += 1
        captures.add(f"{name}_{n}")
        return f"{{{name}_{n}}}"

    single = text if "*" in text else _CAPTURE.sub(unique, text)
    return compile_pattern(single if "/" in text else f"**/{single}")


def has_captures(template: str) -> bool:
    """Say whether a text has captures to be filled in."""
    return _CAPTURE.search(template) is not None


def _check_marker(marker: str, emit: str | None, pattern: Pattern | None) -> None:
    if not has_captures(marker):
        if "*" in marker or "/" in marker or marker in {".", ".."}:
            raise ValueError(
                f"marker {marker!r} must be the name of an object in the folder that it completes, such as _SUCCESS, "
                "or name its file with a capture, such as {name}.done"
            )
        return
    if emit == "set":
        raise ValueError(f"marker {marker!r} belongs to single files; a set has one without captures, such as _SUCCESS")
    _check_captures("marker", marker, pattern, {FILE})
    own = key_pattern(marker)
    if marker == "{file}" or (pattern is not None and own.match(_sample(pattern)) is not None):
        raise ValueError(f"marker {marker!r} is what the pattern matches too: every file would be a marker")


def _check_captures(field: str, template: str, pattern: Pattern | None, more: set[str], when: str = "") -> None:
    """Refuse a template that cannot be filled from a file's captures."""
    if "*" in template:
        raise ValueError(f"{when}`{field}` is filled from a file's captures, so {template!r} cannot have a *")
    known = {*(pattern.names if pattern is not None else ()), *more}
    for name in _CAPTURE.findall(template):
        if name not in known:
            names = ", ".join(f"{{{one}}}" for one in sorted(known)) or "none: there is no pattern with captures"
            raise ValueError(f"{when}`{field}` names {{{name}}}, which `pattern` does not capture; it has {names}")
    key_pattern(template)


def _sample(pattern: Pattern) -> str:
    """Return a key that a pattern matches, with odd text in the place of all that varies."""
    return _STARS.sub("\ue000", _CAPTURE.sub("\ue000", pattern.text))
