"""Counters, gauges, histograms, and the text that Prometheus reads."""

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import MAX_CHILDREN, Kind, Metrics
from tidegate.telemetry.prometheus import metric_name

LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*"'
LINE = re.compile(rf"[a-zA-Z_:][a-zA-Z0-9_:]*(\{{{LABEL}(,{LABEL})*\}})? \S+")


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("cicd.pipeline.run.duration", "s", Kind.HISTOGRAM, "cicd_pipeline_run_duration_seconds"),
        ("tidegate.telemetry.dropped_spans", "{span}", Kind.COUNTER, "tidegate_telemetry_dropped_spans_total"),
        ("process.memory.usage", "By", Kind.GAUGE, "process_memory_usage_bytes"),
        ("process.cpu.time", "s", Kind.COUNTER, "process_cpu_time_seconds_total"),
        ("9 lives!", "1", Kind.GAUGE, "_9_lives_"),
    ],
)
def test_names_follow_the_rules_of_opentelemetry(name: str, unit: str, kind: Kind, expected: str) -> None:
    """Dots become underscores, units and `_total` become suffixes."""
    assert metric_name(name, unit, kind) == expected


def test_the_page_is_exactly_this() -> None:
    """Families come by name with help and type; histograms are cumulative and end with sum and count."""
    metrics = Metrics()
    metrics.counter("b.count", "Things\nand\\more.", "{thing}", ("kind",)).labels('we"ird\n\\').inc(2)
    histogram = metrics.histogram("a.time", "Time.", "s", (), (0.1, 1.0)).labels()
    for value in (0.1, 0.5, 3.0):
        histogram.observe(value)
    metrics.gauge("c.empty", "Nothing yet.", "1", ("x",))
    metrics.observed_gauge("d.now", "Asked.", "By", (), lambda: {(): 1.5})

    assert metrics.render() == (
        "# HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n"
        'a_time_seconds_bucket{le="0.1"} 1\na_time_seconds_bucket{le="1"} 2\na_time_seconds_bucket{le="+Inf"} 3\n'
        "a_time_seconds_sum 3.6\na_time_seconds_count 3\n"
        "# HELP b_count_total Things\\nand\\\\more.\n# TYPE b_count_total counter\n"
        'b_count_total{kind="we\\"ird\\n\\\\"} 2\n'
        "# HELP d_now_bytes Asked.\n# TYPE d_now_bytes gauge\nd_now_bytes 1.5\n"
    )


@given(st.lists(st.text(), max_size=20), st.floats())
def test_hostile_label_values_cannot_forge_lines(values: list[str], number: float) -> None:
    """Whatever a label holds, every line is a comment or one well-formed sample."""
    metrics = Metrics()
    family = metrics.gauge("g", "G.", "1", ("label",))
    for value in values:
        family.labels(value).set(number)

    for line in metrics.render().split("\n")[:-1]:
        assert line.startswith("# ") or LINE.fullmatch(line), line


def test_labels_from_outside_cannot_make_metrics_grow() -> None:
    """Beyond the limit all further label values share one child, and nothing is lost from the sum."""
    metrics = Metrics()
    family = metrics.counter("c", "C.", "1", ("label",))
    for n in range(3 * MAX_CHILDREN):
        family.labels(str(n)).inc()

    assert len(family.children) == MAX_CHILDREN + 1
    assert sum(child.value for child in family.children.values()) == 3 * MAX_CHILDREN
    assert family.children["_other",].value == 2 * MAX_CHILDREN


def test_wrong_use_is_told() -> None:
    """A wrong number of labels and a second declaration are mistakes with a sentence."""
    metrics = Metrics()
    family = metrics.counter("c", "C.", "1", ("a", "b"))
    with pytest.raises(ValueError, match="has the labels"):
        family.labels("only one")
    with pytest.raises(ValueError, match="declared already"):
        metrics.counter("c", "C.")


def test_a_broken_observation_hides_nothing_else() -> None:
    """A callback that fails leaves out its own family only."""
    metrics = Metrics()
    metrics.counter("good", "Good.").labels().inc()
    metrics.observed_gauge("bad", "Bad.", "1", (), lambda: {(): 1 // 0})

    assert "good_total 1" in metrics.render()
    assert "bad" not in metrics.render()


def test_threads_share_a_counter_without_losing_any() -> None:
    """Increments of several threads add up exactly."""
    child = Metrics().counter("c", "C.").labels()

    def work() -> None:
        for _ in range(50_000):
            child.inc()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert child.value == 200_000


def test_increments_are_cheap() -> None:
    """A kept child costs well below five microseconds per increment or observation."""
    metrics = Metrics()
    counter, histogram = metrics.counter("c", "C.").labels(), metrics.histogram("h", "H.").labels()
    best = float("inf")
    for _ in range(5):
        started = time.thread_time_ns()
        for _ in range(2_000):
            counter.inc()
            histogram.observe(0.02)
        best = min(best, (time.thread_time_ns() - started) / 4_000 / 1000)

    assert best < 5


def test_every_instrument_shows_up() -> None:
    """Each thing that is told appears under the name of the conventions."""
    instruments = Instruments(Metrics())
    instruments.request("/hooks/github", "POST", 503, 0.01)
    instruments.event("github", 0.002)
    instruments.brought("github", "stored", 1)
    instruments.brought("github", "dead", 0)
    instruments.sensor_state("github", "unhealthy", 1_000_000)
    instruments.decision("pushed", "fired")
    instruments.triggered("pushed", "orders")
    instruments.run_started("orders", 0.5)
    instruments.run_ended("orders", "failure", "exit_code", 2.0)
    instruments.task_ended("orders", "load", "success", 1.0)
    instruments.committed(7, 0.004)
    instruments.system_error("store", "OperationalError")
    instruments.active_runs(lambda: {"orders": 3})
    instruments.backlog(lambda: (4, 5000))
    instruments.process()
    text = instruments.metrics.render()

    for line in (
        (
            'http_server_request_duration_seconds_count{http_request_method="POST",http_route="/hooks/github",'
            'http_response_status_code="503",error_type="503"} 1'
        ),
        (
            'messaging_process_duration_seconds_count{messaging_system="tidegate",messaging_operation_name="process",'
            'messaging_destination_name="github"} 1'
        ),
        'tidegate_sensor_state{sensor_name="github",state="unhealthy"} 1',
        'tidegate_sensor_state{sensor_name="github",state="healthy"} 0',
        'tidegate_sensor_last_success_seconds{sensor_name="github"} 1',
        'tidegate_decisions_total{trigger_name="pushed",outcome="fired"} 1',
        (
            'cicd_pipeline_run_duration_seconds_count{cicd_pipeline_name="orders",cicd_pipeline_run_state="pending",'
            'cicd_pipeline_result="",error_type=""} 1'
        ),
        'cicd_pipeline_run_errors_total{cicd_pipeline_name="orders",error_type="exit_code"} 1',
        'cicd_pipeline_run_active{cicd_pipeline_name="orders",cicd_pipeline_run_state="executing"} 3',
        "tidegate_store_commit_items_sum 7",
        "tidegate_store_backlog_size_bytes 5000",
        'cicd_system_errors_total{cicd_system_component="store",error_type="OperationalError"} 1',
    ):
        assert f"{line}\n" in text
    assert re.search(r"process_memory_usage_bytes \d{7,}", text)
    assert 'outcome="dead"' not in text
