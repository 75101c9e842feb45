"""What engines are handed."""

import re

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.support.telemetry_rows import context, run, task_run
from tidegate.telemetry.propagation import STALE, environ_and_headers, environment_name, propagator

NORMAL = re.compile(r"[A-Z_][A-Z0-9_]*")


def test_an_attempt_hands_its_own_context_over() -> None:
    """Environment and headers carry the attempt's span, our ids, and no baggage."""
    environ, headers = environ_and_headers(run(["e"], context(1), context(2)), task_run(context(3), attempt=2))

    assert headers == {"traceparent": context(3)}
    assert environ["TRACEPARENT"] == context(3)
    assert (environ["TIDEGATE_RUN"], environ["TIDEGATE_TASK"], environ["TIDEGATE_TASK_RUN"]) == (
        "run_1",
        "load",
        "tsk_1",
    )
    assert (environ["TIDEGATE_PIPELINE"], environ["TIDEGATE_ATTEMPT"]) == ("orders", "2")
    assert {"TRACESTATE", "BAGGAGE"}.isdisjoint(environ)


def test_without_contexts_there_is_no_traceparent() -> None:
    """A row without a context hands over our ids alone; one without an attempt's context falls back to RUN's."""
    environ, headers = environ_and_headers(run(["e"], None, None), task_run(None))
    assert headers == {}
    assert "TRACEPARENT" not in environ
    assert environ_and_headers(run(["e"], None, context(2)), task_run(None))[1] == {"traceparent": context(2)}


def test_the_openlineage_parent_is_our_task_and_the_root_our_run() -> None:
    """Tools that read `OPENLINEAGE_CONTEXT` or the older variables hang below our task, with our run as root."""
    environ, _ = propagator("orders-gate")(run(["e"], None, None), task_run(None))
    parent = orjson.loads(environ["OPENLINEAGE_CONTEXT"])["parent"]

    assert parent["job"] == {"namespace": "orders-gate", "name": "orders.load"}
    assert parent["root"]["job"] == {"namespace": "orders-gate", "name": "orders"}
    assert parent["run"] != parent["root"]["run"]
    assert environ["OPENLINEAGE_PARENT_ID"] == f"orders-gate/orders.load/{parent['run']['runId']}"
    assert environ["OPENLINEAGE_ROOT_PARENT_ID"] == f"orders-gate/orders/{parent['root']['run']['runId']}"


def test_a_namespace_with_a_slash_has_no_legacy_form() -> None:
    """Where the old form would be read wrongly it is left out; the new one says everything."""
    environ, _ = environ_and_headers(run(["e"], None, None), task_run(None), "s3://bucket")

    assert {"OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID"}.isdisjoint(environ)
    assert orjson.loads(environ["OPENLINEAGE_CONTEXT"])["parent"]["job"]["namespace"] == "s3://bucket"


@given(st.text(max_size=30))
def test_environment_names_are_normalised(name: str) -> None:
    """Every name becomes one that environment carriers allow, and normalising twice changes nothing."""
    normal = environment_name(name)

    assert NORMAL.fullmatch(normal)
    assert environment_name(normal) == normal


def test_names_as_the_specification_gives_them() -> None:
    """The three names that are removed first are the normalised ones."""
    assert tuple(map(environment_name, ("traceparent", "tracestate", "baggage"))) == STALE
    assert (environment_name(""), environment_name("9a-b")) == ("_", "_9A_B")
