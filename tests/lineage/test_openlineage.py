"""OpenLineage ids and names."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.support.telemetry_rows import run, task_run
from tidegate.lineage.openlineage import legacy_parent_id, parent_facet, run_id, task_run_id

MOMENT = int(datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC).timestamp()) * 1_000_000 + 123456


def test_an_id_never_changes() -> None:
    """The id of a row is this one, which openlineage-python 1.54 gives for it, after every restart and release."""
    assert run_id("run_01", MOMENT) == UUID("019ca960-bc53-7787-bd44-3205b4cf11b0")


@given(st.text(max_size=40), st.integers(0, 4_000_000_000_000_000))
def test_ids_are_valid_version_7(uid: str, moment: int) -> None:
    """Ids are RFC 9562 version 7, carry their millisecond, and are the same for the same row."""
    made = run_id(uid, moment)

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == moment // 1000
    assert made == run_id(uid, moment)


@given(st.lists(st.text(max_size=20), unique=True, max_size=20))
def test_different_rows_have_different_ids(uids: list[str]) -> None:
    """Rows of one instant are told apart by their uids."""
    assert len({run_id(uid, MOMENT) for uid in uids}) == len(uids)


def test_the_parent_of_a_task_is_the_task_and_its_root_the_run() -> None:
    """With a task run the facet names it; without, the run itself; the root is always the run."""
    whole, part = run([], None, None), task_run(None)
    of_run, of_task = parent_facet(whole, "ns"), parent_facet(whole, "ns", part)

    assert of_run["root"] == {"run": of_run["run"], "job": of_run["job"]} == of_task["root"]
    assert of_task["run"] == {"runId": str(task_run_id(whole, part))}
    assert of_task["job"] == {"namespace": "ns", "name": "orders.load"}


def test_attempts_of_a_task_share_its_id() -> None:
    """A retry is the same OpenLineage run: its id follows from the task run alone."""
    whole = run([], None, None)

    assert task_run_id(whole, task_run(None)) == task_run_id(whole, task_run(None, attempt=2, started_at=5))


def test_the_legacy_form_has_exactly_three_parts() -> None:
    """`namespace/job/uuid`, or nothing where it could be read wrongly."""
    facet = parent_facet(run([], None, None), "ns")
    slashed = parent_facet(run([], None, None, pipeline="a/b"), "ns")

    assert legacy_parent_id(facet) == f"ns/orders/{facet['run']['runId']}"
    assert legacy_parent_id(slashed) is None
