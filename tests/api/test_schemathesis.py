"""Schemathesis over the service's own OpenAPI: whatever is sent, no 5xx, and every answer is one that is declared."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.house import EVIL
from tests.support.served import Served, serve_house


async def _live(served: Served) -> None:
    await served.house.receive("a.csv")
    await served.house.work()
    await served.house.receive(EVIL, sensor="hook")
    await served.house.bury()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_house(tmp_path_factory.mktemp("house")) as made:
        made.do(_live(made))
        yield made


@pytest.fixture(scope="module")
def operations(served: Served) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{served.url}/api/openapi.json")
    results = list(schema.get_all_operations())
    found = [result.ok() for result in results if isinstance(result, Ok)]
    assert len(found) == len(results)
    return {operation.label: operation for operation in found}


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# The whole takes seconds; `make campaigns` is where more examples belong.
_PER_OPERATION = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A stream has no end to wait for; test_stream.py looks after it.
_ENDLESS = {"GET /api/v1/stream"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "broken"])
def test_the_api_keeps_its_own_description(mode: GenerationMode, operations: dict[str, Any]) -> None:
    """No request, valid or broken, makes it answer 5xx, and what it answers is what its description says."""
    asked = {label: _ask(operations[label], mode) for label in operations if label not in _ENDLESS}
    if mode is GenerationMode.POSITIVE:
        assert all(asked.values())
    assert sum(asked.values()) > 100


def _ask(operation: Any, mode: GenerationMode) -> int:
    """Ask one operation; return how often."""
    asked = 0

    @_PER_OPERATION
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal asked
        case.call_and_validate(checks=CHECKS)
        asked += 1

    try:
        ask()
    except Unsatisfiable:  # nothing about a request without parameters can be broken
        assert mode is GenerationMode.NEGATIVE
    return asked
