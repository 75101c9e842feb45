"""Random writes against a simple model: dispositions, retries and late holders, on tables and on files."""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipelines.datasets.written import StaleWrite
from tests.support.dataset_places import LOCAL, Place, stamp

RUNS = 4
MODELLED = ("parquet", "parquet-folder", "duckdb", "delta")
_KEYS = st.lists(st.integers(1, 5), unique=True, max_size=4)


class Writes(RuleBasedStateMachine):
    """One dataset. The model: rows by what each write left, who wrote last, and which writes are done."""

    name = "parquet"

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.place = Place(name=self.name, uri=LOCAL[self.name], base=Path(self._folder.name))
        self.rows: list[tuple[int, int, bool]] = []  # id, value, marked
        self.best: dict[str, tuple[int, int]] = {}  # the highest fence and attempt that wrote, by run
        self.last = ""  # the run that wrote last
        self.at = 0

    def teardown(self) -> None:
        self._folder.cleanup()

    @initialize()
    def begin(self) -> None:
        """Begin with rows that all dispositions know."""
        frame = pl.DataFrame({"id": [1, 2], "v": [0, 0]})
        self.place.write(frame, stamp("run_0"), "soft_delete", key=["id"])
        self.rows = [(1, 0, False), (2, 0, False)]
        self.best["run_0"], self.last = (1, 1), "run_0"

    @rule(
        run=st.integers(1, RUNS),
        fence=st.integers(1, 3),
        attempt=st.integers(1, 3),
        ids=_KEYS,
        mode=st.sampled_from(["replace", "merge", "soft_delete", "append"]),
    )
    def write(self, run: int, fence: int, attempt: int, ids: list[int], mode: str) -> None:
        """Write as some attempt of some run, maybe a late one, maybe one that has written before."""
        self.at += 1_000_000
        who = stamp(f"run_{run}", fence, attempt, at=self.at)
        frame = pl.DataFrame({"id": ids, "v": [self.at] * len(ids)}, schema={"id": pl.Int64, "v": pl.Int64})
        if (fence, attempt) < self.best.get(who.run, (0, 0)):
            try:
                self.place.write(frame, who, mode, key=["id"])
            except StaleWrite:
                return
            raise AssertionError("a late holder was let through")
        done = who.run in self.best
        written = self.place.write(frame, who, mode, key=["id"])
        skipped = done and (mode == "append" or self.last != who.run)
        assert written.repeated == skipped
        if not skipped:
            self.best[who.run], self.last = (fence, attempt), who.run
            self._model(ids, mode)

    def _model(self, ids: list[int], mode: str) -> None:
        new = [(i, self.at, False) for i in ids]
        if mode == "append":
            self.rows += new
        elif mode == "replace":
            self.rows = new
        else:
            known = {i for i, _, _ in self.rows}
            self.rows = [
                (i, self.at, False if mode == "soft_delete" else gone) if i in ids else (i, v, gone)
                for i, v, gone in self.rows
            ]
            if mode == "soft_delete":
                self.rows = [(i, v, gone or i not in ids) for i, v, gone in self.rows]
            self.rows += [row for row in new if row[0] not in known]

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        """Every row is there once for each time it was written, with its last value and mark."""
        frame = self.place.read()
        if not self.last:
            return
        marks = frame["_deleted_at"].is_not_null()
        there: list[Any] = sorted(zip(frame["id"].to_list(), frame["v"].to_list(), marks.to_list(), strict=True))
        assert there == sorted(self.rows)


def _machine(name: str) -> type[Writes]:
    return type(f"Writes_{name}", (Writes,), {"name": name})


def _try(name: str, examples: int) -> None:
    run_state_machine_as_test(_machine(name), settings=settings(max_examples=examples, stateful_step_count=8))


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("parquet", 8),
        ("parquet-folder", 4),
        ("duckdb", 2),
        *(pytest.param(name, 60, marks=[pytest.mark.campaign, pytest.mark.timeout(900)]) for name in MODELLED),
    ],
)
def test_rows_are_what_the_model_says(name: str, examples: int) -> None:
    """After any history of writes, retries and late holders a target holds the rows of the model, each once."""
    _try(name, examples)
