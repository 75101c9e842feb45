"""Looks at datasets for the ledger: in the workers of the engine `python`, where drivers may be imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.datasets.looking import FUNCTION
from pipelines.engines.python import PythonEngine
from pipelines.ports import Engine
from pipelines.recording import PATIENCE, Look


def looker(python: Engine, base: Path) -> Look:
    """Return what looks at datasets. `base` is where relative paths start."""
    folder = str(base.absolute())

    async def look(places: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any] | None]:
        if not isinstance(python, PythonEngine):
            return [None] * len(places)
        args = {"places": list(places), "base": folder}
        found: Sequence[Mapping[str, Any] | None] = await python.call(FUNCTION, args, PATIENCE)
        return found

    return look
