"""What a rule says: a `Wish` for a run, rendered, or an `Objection` and the clause that made it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from triggers.activation import Activation
from triggers.decision import Clause
from triggers.errors import EvaluationError, Unreadable
from triggers.expression import Expression
from triggers.template import Template, moment_text
from triggers.trigger import RunRule

MAX_PARAMS_BYTES = 65_536
MAX_KEY = 1_024  # bytes; an index of PostgreSQL takes 2,700


@dataclass(frozen=True, slots=True)
class CompiledRun:
    """One run rule, ready to render. `path` is where it stands (`run` or `run[1]`)."""

    rule: RunRule
    position: int
    path: str
    params: Template
    key: Expression | None
    partition: Expression | None
    lane: Expression | None


@dataclass(frozen=True, slots=True)
class Wish:
    """A rendered run: `key` None means that the trigger event's own id is the key."""

    run: CompiledRun
    item: int | None
    params: Mapping[str, Any]
    key: str | None
    partition: str | None
    lane: str | None


@dataclass(frozen=True, slots=True)
class Objection:
    """Why there is no run: `error` tells a failed evaluation from a condition that does not hold."""

    clause: Clause
    reason: str
    error: bool
    item: int | None = None


def render(run: CompiledRun, activation: Activation, item: int | None) -> Wish | Objection:
    """Render a run, or say what stands in its way. Raises Unreadable."""
    where, text = f"{run.path}.params", ""
    try:
        params = run.params.render(activation)
        if not run.params.constant and len(orjson.dumps(params)) > MAX_PARAMS_BYTES:
            raise EvaluationError(
                f"the parameters are larger than {MAX_PARAMS_BYTES} bytes; pass a reference to the data instead"
            )
        key = partition = lane = None
        if run.key is not None:
            where, text = f"{run.path}.key", run.key.text
            key = name_of(run.key.evaluate(activation))
            if key is None:
                raise EvaluationError("the key is null; without a key, leave the field out")
        if run.partition is not None:
            where, text = f"{run.path}.partition", run.partition.text
            partition = name_of(run.partition.evaluate(activation))
        if run.lane is not None:
            where, text = f"{run.path}.lane", run.lane.text
            lane = name_of(run.lane.evaluate(activation))
    except Unreadable:
        raise
    except (EvaluationError, orjson.JSONEncodeError) as error:
        return Objection(Clause(where, text, "a value", str(error)), f"{where} failed: {error}", error=True, item=item)
    return Wish(run, item, params, key, partition, lane)


def name_of(value: Any) -> str | None:
    """Return a key, lane or partition as text, None for null. Raises EvaluationError for what names nothing."""
    if value is None:
        return None
    if isinstance(value, datetime):
        value = moment_text(value)
    elif isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        raise EvaluationError(f"{show(value)} is no name; string(…) makes text of a number with a fraction")
    if not value:
        raise EvaluationError("the text is empty; null stands for none")
    if len(value) > MAX_KEY // 4 and (size := len(value.encode("utf-8", "replace"))) > MAX_KEY:
        raise EvaluationError(f"the text has {size} bytes; {MAX_KEY} are allowed")
    return value


def show(value: Any, limit: int = 200) -> str:
    """Return a value in words for people, bounded."""
    if isinstance(value, datetime):
        text = moment_text(value)
    else:
        try:
            text = orjson.dumps(value).decode()
        except (TypeError, RecursionError):
            text = str(type(value).__name__) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
