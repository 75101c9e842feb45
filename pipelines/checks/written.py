"""Checks as people write them in YAML, and the model that validates them.

    checks:
      - row_count: {min: 1, max_drop: 0.5}
      - not_null: [id, day]                       # short for {columns: [id, day]}
      - between: {column: amount, min: 0}
        severity: warn
        name: amounts are not negative
        redact: [amount]
      - columns_match_last

In flow such entries, or the plain form of a stored definition (`{kind, options, …}`); out flow CheckEntry models. What
holds a template (`${{ … }}`) is validated once it is filled in.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipelines.checks.registry import KINDS, options_of
from pipelines.checks.spec import CheckSpec, Severity

_BESIDE: Final = ("severity", "name", "redact")
_SHORT: Final = {"not_null": "columns", "unique": "columns", "sql": "query", "custom": "function", "pandera": "schema"}


def unfolded(value: Any) -> Any:
    """Return an entry as `{kind, options, …}`. Raises ValueError for what is no check."""
    if isinstance(value, CheckEntry):
        return value
    if isinstance(value, str):
        return {"kind": _known(value), "options": {}}
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no check; write one such as `row_count: {{min: 1}}`")  # noqa: TRY004
    if "kind" in value:
        return dict(value)
    kinds = [key for key in value if key not in _BESIDE]
    if len(kinds) != 1:
        said = f"names {' and '.join(map(str, kinds))}" if kinds else "names no kind"
        raise ValueError(f"a check {said}; write one kind for each entry of the list, such as `row_count: {{min: 1}}`")
    kind = _known(str(kinds[0]))
    given = value[kinds[0]]
    beside = {key: value[key] for key in _BESIDE if key in value}
    if given is None:
        given = {}
    elif not isinstance(given, Mapping) and kind in _SHORT:
        given = {_SHORT[kind]: given}
    elif not isinstance(given, Mapping):
        raise ValueError(f"the options of {kind} are a map; write `{KINDS[kind].example}`")
    inside = [key for key in _BESIDE if key in given and key not in _fields(kind)]
    if inside:
        raise ValueError(f"`{inside[0]}` stands beside `{kind}`, not within its options")
    return {"kind": kind, "options": dict(given), **beside}


def _fields(kind: str) -> Sequence[str]:
    return [field.alias or name for name, field in KINDS[kind].options.model_fields.items()]


def _known(kind: str) -> str:
    if kind not in KINDS:
        close = get_close_matches(kind, KINDS, 1)
        hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(KINDS)}"
        raise ValueError(f"there is no check `{kind}`; {hint}")
    return kind


class CheckEntry(BaseModel):
    """One check: its kind and options, how grave it is, what it is called, and whose values are not to be shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    severity: Severity = Field("fail", description="`fail` publishes nothing and fails the task; `warn` only tells")
    name: str = Field("", max_length=200, description="what it is called; by default its kind and columns")
    redact: bool | tuple[str, ...] = Field(
        False, description="`true`, or columns: their values appear in no message and no sample"
    )

    @model_validator(mode="after")
    def _fits(self) -> "CheckEntry":
        if not _has_template(self.options):
            options_of(self.spec)
        return self

    @property
    def spec(self) -> CheckSpec:
        """The check as the stage knows it."""
        return CheckSpec(self.kind, self.options, self.severity, self.name, self.redact)


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return "${{" in value
    if isinstance(value, Mapping):
        return any(_has_template(one) for one in value.values())
    return isinstance(value, Sequence) and any(_has_template(one) for one in value)


Entry = Annotated[CheckEntry, BeforeValidator(unfolded, json_schema_input_type=str | dict[str, Any])]
Entries = tuple[Entry, ...]


def _usable(written: Any) -> Any:
    """Return an entry as it was written, if it can be used."""
    try:
        CheckEntry.model_validate(unfolded(written))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from None
    return written


Written = Annotated[str | Mapping[str, Any], AfterValidator(_usable)]
