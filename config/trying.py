"""What the test kit of triggers needs of a configuration: its triggers, as they would be in force, and sample events.

The one place that the kit (`triggers.testing`) reaches up to; nothing else of the stages does.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.load import load_config
from config.samples import kind_sample, make_event
from sensors.event import Event
from triggers.trigger import Trigger

__all__ = ["Tried", "make_event", "sample", "tried_file", "tried_text"]


@dataclass(frozen=True, slots=True)
class Tried:
    """Of a configuration: triggers, the bounds of pipelines, the sample of each sensor's kind, the hash."""

    triggers: Mapping[str, Trigger]
    concurrency: Mapping[str, int]
    samples: Mapping[str, Mapping[str, Any]]
    hash: str


def tried_file(*paths: Path) -> Tried:
    """Load a configuration; secrets need not be there. Raises config.problems.ConfigProblems."""
    config = load_config(paths, environ=os.environ, resolve_secrets=False)
    return Tried(
        triggers=config.triggers,
        concurrency={name: pipeline.concurrency for name, pipeline in config.pipelines.items()},
        samples={name: entry.kind.emits.sample for name, entry in config.sensors.items()},
        hash=config.hash,
    )


def tried_text(text: str) -> Tried:
    """Load a configuration that stands in a text; relative paths in it start where the process is."""
    with tempfile.TemporaryDirectory(prefix="tidegate-rules-") as folder:
        here, path = Path(folder) / "here.yaml", Path(folder) / "rules.yaml"
        here.write_text(json.dumps({"service": {"base": str(Path.cwd())}}))
        path.write_text(text)
        return tried_file(here, path)


def sample(kind: str, sensor: str, at: int, given: Mapping[str, Any]) -> Event:
    """Return the sample event of a sensor kind, changed by what is given."""
    return make_event(given, sensor, {sensor: kind_sample(kind)}, at)
