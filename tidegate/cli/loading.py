"""Configuration files as commands name them."""

import os
from collections.abc import Sequence
from pathlib import Path

from tidegate.cli.errors import PROBLEMS, USAGE, fail

DEFAULT = Path("tidegate.yaml")


def config_paths(given: Sequence[Path] | None) -> list[Path]:
    """Return the files named, or ./tidegate.yaml. Ends the command when there is none."""
    paths = list(given or [])
    if not paths:
        if not DEFAULT.is_file():
            fail("there is no ./tidegate.yaml; name the configuration, or go where it is", USAGE)
        paths = [DEFAULT]
    return paths


def store_url(given: Sequence[Path] | None) -> str:
    """Return the store of a configuration. Ends the command with its problems when it has any."""
    from config.load import load_config
    from config.problems import ConfigProblems

    paths = config_paths(given)
    try:
        return load_config(paths, environ=os.environ, resolve_secrets=True).store
    except ConfigProblems as problems:
        fail("the configuration has problems:\n" + "\n".join(str(problem) for problem in problems.problems), PROBLEMS)
