"""`tidegate check`: every problem of a configuration at once. Starts nothing, connects nowhere, needs no secret."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config.load import load_config
from config.problems import ConfigProblems, Problem


def check(
    paths: Sequence[Path],
    overlays: Sequence[Path] = (),
    *,
    environ: Mapping[str, str],
    resolve_secrets: bool = False,
    **injected: Any,
) -> list[Problem]:
    """Return the problems in the order of files and lines, empty for a good configuration.

    `injected` are `sensors`, `engines` and `load` of `load_config`.
    """
    try:
        load_config(paths, overlays, environ=environ, resolve_secrets=resolve_secrets, **injected)
    except ConfigProblems as found:
        return list(found.problems)
    return []
