"""The options that say what is read of a file's content, and what is expected of it: the same for every kind."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sensors.adapters.column_types import normal_type
from sensors.units import Size


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InspectOptions(_Options):
    """How files are read: only the footer of Parquet, only the beginning of all else."""

    format: Literal["auto", "parquet", "csv", "json", "ndjson"] = Field(
        "auto", description="auto: told from the name's ending, else from the first bytes"
    )
    max_bytes: Size = Field(
        1 << 20, ge=1024, le=16 << 20, description="how much is read of a file, and how much it may become unpacked"
    )
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, pattern=r'^[^"\r\n\\]$', description="between the fields of a CSV"
    )
    header: bool = Field(True, description="whether the first line of a CSV has names; else they are column_1, …")


class RowBounds(_Options):
    """How many rows there may be. What was not counted to its end cannot break `max` unless it already has."""

    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("write `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is greater than `max`")
        return self


class ViolationOptions(_Options):
    """What is done with a file that is not as expected, besides refusing it."""

    move: str | None = Field(None, min_length=1, description="the folder or prefix to move it to")


class ExpectOptions(_Options):
    """What a file must be like; one that is not is refused before any trigger sees it."""

    columns: tuple[str, ...] | Mapping[str, str] = Field(
        (), description="names, or names with types: int float number decimal string bool date timestamp … or int32 …"
    )
    mode: Literal["exact", "at_least", "as_last"] = Field(
        "at_least", description="at_least: more columns are fine; as_last: the same as in the last accepted file"
    )
    rows: RowBounds | None = None
    on_violation: ViolationOptions = ViolationOptions()
    generation: int = Field(0, ge=0, description="with as_last: raise it to accept a new form, whatever it is")

    @field_validator("columns")
    @classmethod
    def _types(cls, value: tuple[str, ...] | Mapping[str, str]) -> tuple[str, ...] | Mapping[str, str]:
        if isinstance(value, Mapping):
            return {name: normal_type(kind) for name, kind in value.items()}
        if len(set(value)) < len(value):
            raise ValueError("a column is named twice")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.mode == "as_last" and self.columns:
            raise ValueError("`mode: as_last` compares with the file before; take out `columns`, or change `mode`")
        if self.mode != "as_last" and not self.columns and self.rows is None:
            raise ValueError("nothing is expected; write `columns`, `rows` or `mode: as_last`")
        return self

    def typed(self) -> Mapping[str, str | None]:
        """Return the expected columns with their types, None where any will do."""
        return self.columns if isinstance(self.columns, Mapping) else dict.fromkeys(self.columns)


class ContentOptions(BaseModel):
    """Mixed into the options of kinds that can look into files."""

    inspect: bool | InspectOptions = Field(
        False, description="read schema and row count of new files (Parquet, CSV, JSON, also gzip and zstd) into `data`"
    )
    expect: ExpectOptions | None = Field(
        None, description="what new files must be like; others are refused: no event, but a dead letter that says why"
    )
