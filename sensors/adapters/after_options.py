"""The options that say what becomes of an object after its run, and why some of them would make a circle. Pure."""

import fnmatch
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sensors.adapters.destination import Template, compile_template, meet, watched_glob
from sensors.adapters.object_options import ObjectOptions
from sensors.patterns import Pattern, compile_pattern

_MOST_TAGS: Final = 10  # as S3 has it
_NAME_LENGTH: Final = 128
_VALUE_LENGTH: Final = 256


class After(BaseModel):
    """What is done to an object once its run was accepted or has succeeded; never before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Literal["move", "copy", "tag", "delete"]
    to: str | None = Field(
        None,
        description="for move and copy: the new key, over {key}, {name} (its last segment), the captures of `pattern` "
        "and {%Y-%m-%d}, the day in UTC on which the object was seen; what is there already is replaced",
    )
    tags: dict[str, str] = Field(default_factory=dict, description="for tag: what is added; metadata on ADLS")
    when: Literal["accepted", "succeeded"] = Field(
        "succeeded", description="once the event has a run, or once all its runs succeeded"
    )

    @model_validator(mode="after")
    def _whole(self) -> "After":
        moves = self.do in ("move", "copy")
        if moves and self.to is None:
            raise ValueError(f"`do: {self.do}` needs `to`, such as 'archive/{{key}}'")
        if not moves and self.to is not None:
            raise ValueError(f"`do: {self.do}` goes nowhere: leave `to` out, or say move or copy")
        if (self.do == "tag") != bool(self.tags):
            raise ValueError("`do: tag` needs `tags`, and nothing else has them: tags: {state: loaded}")
        if len(self.tags) > _MOST_TAGS:
            raise ValueError(f"`tags` are {len(self.tags)}, and an object has at most {_MOST_TAGS}")
        for name, value in self.tags.items():
            if not 0 < len(name) <= _NAME_LENGTH or len(value) > _VALUE_LENGTH or not (name + value).isprintable():
                raise ValueError(
                    f"tag {name[:40]!r} must have 1 to {_NAME_LENGTH} printable characters, its value up to"
                    f" {_VALUE_LENGTH}"
                )
        return self


class AfterOptions(ObjectOptions):
    """What becomes of objects; nothing unless it is said."""

    after: After | None = Field(None, description="move, copy, tag or delete an object after its run")

    @model_validator(mode="after")
    def _leads_out(self) -> "AfterOptions":
        if self.after is not None and self.after.to is not None:
            check_destination("after.to", self.after.to, self.prefix, self.pattern, self.ignore)
        return self


def check_destination(field: str, to: str, prefix: str, pattern: str | None, ignore: Sequence[str]) -> Template:
    """Compile where objects are taken to. Raises ValueError for what is no key, and for what would be watched itself.

    `field` is the option's name. What is taken to a watched place would be an event again, and be taken away again.
    """
    watched = compile_pattern(pattern) if pattern is not None else None
    captures = watched.names if watched is not None else ()
    try:
        template = compile_template(to, captures)
    except ValueError as error:
        raise ValueError(f"`{field}`: {error}") from error
    ignored = any(fnmatch.fnmatchcase(folder, name) for folder in template.folders for name in ignore)
    if not ignored and meet([template.glob(captures), *watched_glob(prefix, watched)]):
        raise ValueError(
            f"`{field}`: {to!r} can name a key that this sensor watches ({_watched(prefix, watched)}), so that what is"
            " taken there would be an event again: choose a place outside, or one below a folder that `ignore` names"
        )
    return template


def _watched(prefix: str, pattern: Pattern | None) -> str:
    if pattern is not None:
        return f"pattern {pattern.text!r}"
    return f"prefix {prefix!r}" if prefix else "the whole of it"
