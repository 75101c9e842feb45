"""When a task starts and over what it fans out, as people write it: short forms become one form, CEL is compiled."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from config.problems import Path
from config.reading import Reading
from config.sensors_section import sentence
from pipelines.conditions import compile_condition
from triggers.errors import RuleError

UPSTREAM_SCHEMA: Final = {
    "anyOf": [
        {"enum": ["all_success", "all_done", "any_success"]},
        {"type": "string", "pattern": r"^[1-9]\d{0,3}_of$"},
        {
            "type": "object",
            "properties": {"at_least": {"type": "integer", "minimum": 1}},
            "required": ["at_least"],
            "additionalProperties": False,
        },
    ]
}


def upstream_rule(value: Any) -> Any:
    """Return `{at_least: 2}` as `2_of`, anything else as it is."""
    if isinstance(value, Mapping) and list(value) == ["at_least"] and isinstance(value["at_least"], int):
        return f"{value['at_least']}_of"
    return value


def all_or_some(value: Any) -> Any:
    """Return `all` as None, anything else as it is."""
    return None if value == "all" else value


def needs_of(needs: Sequence[str], per: str | None) -> tuple[str, ...]:
    """Return the needs of a task; one that is `per` another needs that one, said or not."""
    return tuple(needs) if per is None or per in needs else (*needs, per)


def check_conditions(reading: Reading, path: Path, when: str | None, partitions: Any) -> None:
    """Compile `when` and `partitions`, to find what is wrong with them now."""
    for name, text in (("when", when), ("partitions", partitions)):
        if isinstance(text, str):
            try:
                compile_condition(text)
            except RuleError as error:
                reading.problem((*path, name), sentence(error), error.hint)
