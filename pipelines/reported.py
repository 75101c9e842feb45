"""What a foreign program reports of its own work: datasets that it wrote, checks that it made, messages. Bounded.

In flow the params of Pipes messages; out flow DatasetWrite and CheckResult values, and the task's output
`{"materializations": {KEY: {"data_version", "metadata"}}, "messages": […]}`. Everything is hostile text until it has
passed here: what the store cannot take is replaced, what is past a bound is counted and said.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from pipelines.logbook import storable
from pipelines.run import CheckResult, DatasetWrite

CHECK: Final = "check"
MAX_REPORTS: Final = 10_000  # materialisations, and checks, of one attempt
MAX_OUTPUT: Final = 200_000  # bytes of JSON of what is handed on, below the bound of a task's output
MAX_TEXT: Final = 2_000
_CHAIN: Final = 8  # words of an exception; a longer chain tells nothing more
_ROWS: Final = ("dagster/row_count", "row_count", "rows", "num_rows")
_BYTES: Final = ("dagster/size_bytes", "size_bytes", "bytes")

Naming = Callable[[str], tuple[str, str]]


class Reported:
    """Gathers the reports of one attempt."""

    def __init__(self, assets: Mapping[str, str]) -> None:
        self._assets = assets
        self._materialized: dict[str, dict[str, Any]] = {}
        self._checks: list[dict[str, Any]] = []
        self._messages: list[Any] = []
        self._weight = 0
        self._left_out = 0

    def take(self, method: str, params: Mapping[str, Any]) -> str | None:
        """Take one report; return the sentence that says why it was not taken."""
        if method == "report_custom_message":
            return self._message(params.get("payload"))
        key = params.get("asset_key")
        if not isinstance(key, str) or key not in self._assets:
            known = ", ".join(sorted(self._assets)[:10])
            return f"a report on the asset {str(key)[:200]!r}, which is not in scope; the task's are: {known}"
        if method == "report_asset_check":
            return self._check(key, params)
        if len(self._materialized) >= MAX_REPORTS:
            return f"more than {MAX_REPORTS} materialisations; this one is left out"
        version = params.get("data_version")
        told = {"data_version": None if version is None else _text(version), "metadata": _raw(params.get("metadata"))}
        if not self._room(told):
            told = {"data_version": told["data_version"], "metadata": {}}
        self._materialized[key] = {**told, "schema": _columns(params.get("metadata"))}
        return None

    def output(self) -> dict[str, Any] | None:
        """Return what the task hands on, None when nothing was reported."""
        if not self._materialized and not self._messages:
            return None
        told = {
            key: {"data_version": one["data_version"], "metadata": one["metadata"]}
            for key, one in self._materialized.items()
        }
        output: dict[str, Any] = {"materializations": told, "messages": self._messages}
        if self._left_out:
            output["left_out"] = self._left_out
        return output

    def datasets(self, task: str, at: int, name: Naming) -> list[DatasetWrite]:
        """Return the writes that were reported; `name` gives namespace and name of a dataset as configured."""
        writes = []
        for key, one in self._materialized.items():
            namespace, dataset = name(self._assets[key])
            metadata = one["metadata"]
            writes.append(
                DatasetWrite(
                    namespace=namespace,
                    name=dataset,
                    task=task,
                    at=at,
                    rows=_number(metadata, _ROWS),
                    bytes=_number(metadata, _BYTES),
                    schema=one["schema"],
                    version=one["data_version"],
                )
            )
        return writes

    def checks(self, task: str, at: int, name: Naming) -> list[CheckResult]:
        """Return the checks that were reported."""
        return [
            CheckResult(
                check=one["check"],
                task=task,
                dataset="/".join(name(self._assets[one["asset"]])),
                passed=one["passed"],
                severity=one["severity"],
                message=one["message"],
                at=at,
            )
            for one in self._checks
        ]

    def failed_checks(self) -> list[str]:
        """Return one sentence per failed check of severity `fail`."""
        return [
            f"check {one['check']} of {one['asset']} failed: {one['message']}"
            for one in self._checks
            if not one["passed"] and one["severity"] == "fail"
        ]

    def _check(self, key: str, params: Mapping[str, Any]) -> str | None:
        if len(self._checks) >= MAX_REPORTS:
            return f"more than {MAX_REPORTS} checks; this one is left out"
        passed = params.get("passed")
        if not isinstance(passed, bool):
            return f"a check of {key!r} that says neither true nor false but {str(passed)[:80]!r}"
        metadata = _raw(params.get("metadata"))
        words = ", ".join(f"{name} {_shown(value)}" for name, value in metadata.items())
        self._checks.append(
            {
                "check": _text(params.get("check_name", "check")),
                "asset": key,
                "passed": passed,
                "severity": "warn" if str(params.get("severity")).upper() == "WARN" else "fail",
                "message": words[:MAX_TEXT] or ("passed" if passed else "the program gave no reason"),
            }
        )
        return None

    def _message(self, payload: Any) -> str | None:
        if not self._room(payload):
            self._left_out += 1
            return f"a custom message that does not fit into the {MAX_OUTPUT} bytes handed on: {_shown(payload)[:500]}"
        self._messages.append(payload)
        return None

    def _room(self, value: Any) -> bool:
        """Say whether a value still fits into the output; if so, count it."""
        weight = len(orjson.dumps(value)) + 64
        if self._weight + weight > MAX_OUTPUT:
            return False
        self._weight += weight
        return True


def exception_words(exception: Mapping[str, Any], *, stack: bool = False) -> str:
    """Return an exception as a program told it, with what caused it, in a few words (or with its stack)."""
    words: list[str] = []
    current: Any = exception
    while isinstance(current, Mapping) and len(words) < _CHAIN:
        words.append(str(current.get("message") or current.get("name") or "an exception without words").strip())
        frames = current.get("stack")
        if stack and isinstance(frames, Sequence) and not isinstance(frames, str):
            words.append("".join(str(frame) for frame in frames[-20:]).rstrip())
        current = current.get("cause") or current.get("context")
    return storable("\n".join(words) if stack else "; caused by ".join(words))[:8_000]


def _raw(metadata: Any) -> dict[str, Any]:
    """Return metadata without the types around its values."""
    if not isinstance(metadata, Mapping):
        return {}
    return {
        _text(name): value["raw_value"] if isinstance(value, Mapping) and "raw_value" in value else value
        for name, value in metadata.items()
    }


def _columns(metadata: Any) -> tuple[tuple[str, str], ...]:
    """Return the columns of the first table schema among the metadata."""
    values = metadata.values() if isinstance(metadata, Mapping) else ()
    for value in values:
        if isinstance(value, Mapping) and value.get("type") == "table_schema":
            raw = value.get("raw_value")
            columns = raw.get("columns") if isinstance(raw, Mapping) else None
            if isinstance(columns, Sequence) and all(isinstance(c, Mapping) and "name" in c for c in columns):
                return tuple((_text(c["name"]), _text(c.get("type") or "")) for c in columns)
    return ()


def _number(metadata: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        value = metadata.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
            return value
    return None


def _text(value: Any) -> str:
    return storable(str(value))[:MAX_TEXT]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
