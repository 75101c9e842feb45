"""Scratch space: what does not fit into memory comes back as it was, and leaves nothing behind."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.store.scratch import ScratchMap, ScratchSet

KEYS = st.sampled_from(["", "a", "b", "\0", "\ud800", "ü"] + [f"k{n}" for n in range(20)])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), KEYS, st.integers()), max_size=80)


def scratch_map(kept: int) -> ScratchMap[int]:
    return ScratchMap(lambda value: json.dumps(value).encode(), lambda text: int(json.loads(text)), kept)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 8))
def test_a_map_is_a_map_wherever_its_values_are(steps: list[tuple[str, str, int]], kept: int) -> None:
    """Values that left memory are found, replaced and forgotten like those that did not."""
    made, model = scratch_map(kept), dict[str, int]()
    for what, key, value in steps:
        if what == "put":
            made.put(key, value)
            model[key] = value
        elif what == "drop":
            made.drop(key)
            model.pop(key, None)
        assert made.get(key) == model.get(key)
    assert {key: made.get(key) for key in model} == model
    made.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=10), st.integers(1, 20))
def test_a_set_is_a_set_wherever_its_numbers_are(groups: list[list[int]], kept: int) -> None:
    """All that was added is in it, and nothing else."""
    made, model = ScratchSet(kept), set[int]()
    for group in groups:
        made.update(group)
        model.update(group)
        assert all(number in made for number in model)
        assert [number for number in range(-3, 4) if number in made] == sorted(model & set(range(-3, 4)))
    made.close()


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has no name: nobody else sees it, and it is gone with whoever made it."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    made = ScratchSet(1_000)
    dice = random.Random(1)
    for _ in range(60):
        made.update(dice.getrandbits(62) for _ in range(1_000))

    assert list(tmp_path.iterdir()) == []
    made.close()
