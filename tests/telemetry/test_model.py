"""The rules of parents and links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.run import RunState, TaskRun, TaskState
from sensors.w3c import child_of, new_root, parse_traceparent
from tidegate.telemetry.model import (
    Edges,
    Shape,
    SpanKind,
    attempt_edges,
    evaluate_edges,
    known_method,
    mint,
    process_edges,
    request_edges,
    run_edges,
    run_result,
    same_trace,
    sampled,
    shape_of,
    stored_parent,
    task_result,
    trigger_edges,
)
from tidegate.telemetry.sampling import keeps, mint_root, root_minter

A = "00-" + "a" * 32 + "-" + "1" * 16 + "-03"
B = "00-" + "b" * 32 + "-" + "2" * 16 + "-03"
REMOTE = "00-" + "c" * 32 + "-" + "3" * 16 + "-01"


def test_a_verified_senders_trace_is_continued() -> None:
    """A request of a verified sender hangs below the sender's span."""
    assert request_edges(REMOTE, trusted=True) == Edges(parent=REMOTE)


def test_a_strangers_trace_is_only_linked() -> None:
    """An unverified sender neither joins our trace nor decides about sampling."""
    assert request_edges(REMOTE, trusted=False) == Edges(links=(REMOTE,))


@pytest.mark.parametrize("text", [None, "", "garbage", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", REMOTE.upper()])
def test_an_invalid_context_is_as_if_absent(text: str | None) -> None:
    """What W3C calls invalid makes neither a parent nor a link."""
    assert request_edges(text, trusted=True) == Edges()
    assert process_edges(A, text) == Edges(A)


def test_a_future_version_is_cut_to_what_we_know() -> None:
    """A traceparent of a later version with more parts is read as far as version 00 goes."""
    assert request_edges("01-" + REMOTE[3:] + "-extra", trusted=True).parent == "01-" + REMOTE[3:]


def test_process_links_the_producer_below_whatever_received_it() -> None:
    """The producer's context stays linked, also where it is the parent."""
    assert process_edges(A, REMOTE) == Edges(A, (REMOTE,))
    assert process_edges(REMOTE, REMOTE) == Edges(REMOTE, (REMOTE,))


def test_one_event_continues_and_several_link() -> None:
    """An evaluation of one event is its child; of several, a root that links each once."""
    assert evaluate_edges([A]) == Edges(A, (A,))
    assert evaluate_edges([A, B, A]) == Edges(None, (A, B))


def test_the_trigger_hangs_below_its_evaluation_and_links_all_events() -> None:
    """The creation context always links the causing events."""
    assert trigger_edges(A, [B]) == Edges(A, (B,))


def test_a_run_of_one_event_continues_its_trace_and_links_as_well() -> None:
    """One cause: parent and link are the creation context."""
    assert run_edges(A, [], causes=1) == Edges(A, (A,))


def test_a_run_of_several_events_starts_its_own_trace() -> None:
    """Several causes: no parent, a link to the creation context and to every event."""
    assert run_edges(A, [B, REMOTE], causes=2) == Edges(None, (A, B, REMOTE))


def test_a_replay_starts_its_own_trace() -> None:
    """A replay never grows an old trace."""
    assert run_edges(A, [B], causes=1, replay=True) == Edges(None, (A, B))


def test_parenthood_can_be_read_back_from_stored_contexts() -> None:
    """After a restart the row's trace id still says whether the span was minted below another."""
    child = child_of(A)

    assert stored_parent(child, A) == A
    assert stored_parent(child, B) is None
    assert stored_parent(A, A) is None
    assert stored_parent(None, A) is None


def test_attempts_hang_below_run() -> None:
    """Every attempt's own context lies in the run's trace."""
    attempt = TaskRun(uid="tsk_1", run="run_1", task="load", attempt=2, span=child_of(A))

    assert attempt_edges(attempt, A) == Edges(A)


def test_minting_follows_the_edges() -> None:
    """A context is minted in its parent's trace, or in a new one."""
    assert same_trace(mint(Edges(A), new_root), A)
    assert mint(Edges(), lambda: B) == B


@pytest.mark.parametrize(
    ("state", "reason", "started", "expected"),
    [
        (RunState.SUCCEEDED, None, True, ("success", None)),
        (RunState.FAILED, "exit_code", True, ("failure", "exit_code")),
        (RunState.FAILED, None, True, ("failure", "failed")),
        (RunState.FAILED, "timeout", True, ("timeout", "timeout")),
        (RunState.FAILED, None, False, ("error", "not_started")),
        (RunState.FAILED, "lost", True, ("error", "lost")),
        (RunState.CANCELLED, "exit_code", True, ("cancellation", None)),
    ],
)
def test_run_results(state: RunState, reason: str | None, started: bool, expected: tuple[str, str | None]) -> None:
    """Results are the conventions' words; an error type comes with every bad end."""
    assert run_result(state, reason, started=started) == expected


@pytest.mark.parametrize(
    ("state", "kind", "expected"),
    [
        (TaskState.SUCCEEDED, None, ("success", None)),
        (TaskState.RETRY_WAIT, "exit_code", ("failure", "exit_code")),
        (TaskState.FAILED, "timeout", ("timeout", "timeout")),
        (TaskState.FAILED, "lost", ("error", "lost")),
        (TaskState.CANCELLED, "cancelled", ("cancellation", None)),
        (TaskState.SKIPPED, None, ("skip", None)),
        (TaskState.UPSTREAM_FAILED, "upstream_failed", ("skip", None)),
    ],
)
def test_task_results(state: TaskState, kind: str | None, expected: tuple[str, str | None]) -> None:
    """Results of attempts are the conventions' words."""
    assert task_result(state, kind) == expected


def test_every_final_state_has_a_result() -> None:
    """No state falls through to a word that the conventions do not know."""
    words = {"success", "failure", "error", "timeout", "cancellation", "skip"}

    assert {run_result(state, None, started=True)[0] for state in RunState if state.final} <= words
    assert {task_result(state, None)[0] for state in TaskState if state.final} <= words


def test_shapes() -> None:
    """Pushed and streamed events are messages; listed objects are not."""
    assert shape_of("webhook", push=True) == Shape(SpanKind.CONSUMER, "webhook")
    assert shape_of("kafka", push=False) == Shape(SpanKind.CONSUMER, "kafka")
    assert shape_of("sqs", push=False).system == "aws_sqs"
    assert shape_of("files", push=False) == Shape(SpanKind.INTERNAL, "")


def test_unknown_methods_become_one_word() -> None:
    """A sender cannot make span names grow."""
    assert known_method("POST") == "POST"
    assert known_method("BREW\n") == "_OTHER"


def test_the_sampled_flag_is_read_from_its_bit() -> None:
    """Odd flag bytes are sampled, even ones and non-contexts are not."""
    assert [sampled(A[:53] + flags) for flags in ("00", "01", "02", "03", "ff")] == [False, True, False, True, True]
    assert not sampled(None)
    assert not sampled("short")


@given(st.floats(0.0, 1.0), st.binary(min_size=16, max_size=16))
def test_sampling_is_a_threshold_on_the_trace_id(ratio: float, trace_id: bytes) -> None:
    """What is kept at some ratio is kept at every higher one; nothing is kept at 0, everything at 1."""
    assert keeps(trace_id, 1.0)
    assert not keeps(trace_id, 0.0)
    if keeps(trace_id, ratio):
        assert keeps(trace_id, min(1.0, ratio + 0.1))


@given(st.binary(min_size=16, max_size=16).filter(any), st.floats(0.0, 1.0))
def test_sampling_agrees_with_the_sdk(trace_id: bytes, ratio: float) -> None:
    """Services that share a ratio keep the same traces."""
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    theirs = TraceIdRatioBased(ratio).should_sample(None, int.from_bytes(trace_id, "big"), "x").decision

    assert keeps(trace_id, ratio) == (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_ratio_keeps_about_its_share() -> None:
    """Half of the roots are sampled at 0.5, all of them valid contexts."""
    minted = [mint_root(0.5) for _ in range(4000)]

    assert 1700 < sum(map(sampled, minted)) < 2300
    assert all(parse_traceparent(text) is not None for text in minted)


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, False), (-1.0, False), (1.0, True), (7.0, True)])
def test_ratios_out_of_range_are_clamped(ratio: float, expected: bool) -> None:
    """A ratio beyond its ends means the end."""
    assert sampled(root_minter(ratio)()) is expected
