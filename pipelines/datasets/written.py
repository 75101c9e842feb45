"""What writers of datasets are told, remember and answer: plain values and a few control errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.datasets.definition import DELETED_AT, Mode

Schema = tuple[tuple[str, str], ...]


class StaleWrite(Exception):
    """A newer holder or attempt of the same run has written already: this one must not."""


class TargetBusy(Exception):
    """The target is in use by another process and did not become free in time; try again later."""


class TargetUnusable(Exception):
    """The target cannot be written or read as it is; the sentence says why and what to do."""

    retryable = True


class WriteRefused(TargetUnusable):
    """What was handed over does not fit the dataset, and will not the next time; the sentence says what would."""

    retryable = False


def _nothing(point: str) -> None:
    """Stand in for a hook."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who writes: run, fencing token, task, partition, attempt; `at` in UTC microseconds.

    `resumes` is the run that this one resumes: what its task has written is this run's. `reached` is called at the
    steps of a write (`dataset.staged`, `dataset.before_publish`, `dataset.published`), for whoever tests what a crash
    there may not do.
    """

    run: str
    fence: int
    task: str
    partition: str
    attempt: int
    at: int
    resumes: str = ""
    reached: Callable[[str], None] = field(default=_nothing, compare=False, repr=False)

    def refuse_stale(self, dataset: str, fence: int, attempt: int) -> None:
        """Raise StaleWrite when a recorded write of this run, with that fence and attempt, outranks this one.

        `attempt` is 0 for a record of another task of the run: there only the token counts.
        """
        if (fence, attempt) > (self.fence, self.attempt):
            raise StaleWrite(
                f"attempt {attempt} under fencing token {fence} has written {dataset} already; "
                f"attempt {self.attempt} under token {self.fence} is no longer the run's"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What a write does to what is there; see `pipelines.datasets.definition.DatasetDef`.

    `schema` is `evolve`, `strict`, or `free`: a replacement of the whole takes whatever columns come.
    """

    mode: Mode = "replace"
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    schema: str = "free"
    deleted_at: str = DELETED_AT

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "How":
        """Read it from plain JSON values."""
        named = {name: plain[name] for name in ("key", "partition_by") if name in plain}
        lists = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in named.items()}
        return cls(**{**plain, **lists})


@dataclass(frozen=True, slots=True)
class Last:
    """The last recorded write by another run: its row count and its columns.

    `counts` are the row counts of the last writes by other runs, the newest first; empty where only the last is known.
    """

    rows: int
    schema: Schema
    counts: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the columns differ from those that were there before."""

    added: Schema = ()
    removed: Schema = ()
    retyped: tuple[tuple[str, str, str], ...] = ()  # name, type before, type now

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.retyped)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values; what is empty is left out."""
        told = {"added": self.added, "removed": self.removed, "retyped": self.retyped}
        return {name: [list(one) for one in items] for name, items in told.items() if items}


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left in the target: rows written, bytes stored (None when not known), columns, version.

    `created` says that there was nothing before; `repeated` that this run's task had written already and nothing was
    done again.
    """

    rows: int
    bytes: int | None
    schema: Schema
    version: str
    changes: Changes = Changes()
    created: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What was read: a Polars DataFrame, its columns as recorded, and the version (None when nobody recorded one)."""

    frame: Any
    schema: Schema
    version: str | None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a target tells without reading its rows; None what cannot be told cheaply."""

    rows: int | None
    bytes: int | None
    schema: Schema
    version: str | None


COUNTS = 20  # earlier writes whose row counts a check may ask for

Judge = Callable[[Last | None], None]
"""Called with the last write before anything is published; what it raises ends the write with nothing published."""


def schema_of(frame: Any) -> Schema:
    """Return names and types of a Polars DataFrame's columns."""
    return tuple((name, str(dtype)) for name, dtype in frame.schema.items())
