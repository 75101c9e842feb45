"""Snapshots become an OTLP metrics request, with the official message classes: cumulative, since the process started.

Runs once per export interval on the telemetry thread, so plain clarity counts more than microseconds here.
"""

import time
from typing import TYPE_CHECKING

from tidegate.telemetry.encode import SCHEMA_URL, put_value
from tidegate.telemetry.metrics import Kind, Metrics, Snapshot

if TYPE_CHECKING:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

    from tidegate.telemetry.encode import Envelope


def encode_metrics(metrics: Metrics, envelope: "Envelope", now_ns: int | None = None) -> bytes:
    """Return an ExportMetricsServiceRequest with every family that has points."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add(resource=envelope.resource, schema_url=SCHEMA_URL)
    scope = resource.scope_metrics.add(scope=envelope.scope, schema_url=SCHEMA_URL)
    now = time.time_ns() if now_ns is None else now_ns
    for family in metrics.snapshot():
        if family.points:
            metric = scope.metrics.add(name=family.name, description=family.help, unit=family.unit)
            _fill(metric, family, metrics.started_ns, now)
    body: bytes = request.SerializeToString()
    return body


def _fill(metric: "Metric", family: Snapshot, started: int, now: int) -> None:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    if family.kind is Kind.HISTOGRAM:
        metric.histogram.aggregation_temporality = cumulative
    elif family.kind is Kind.COUNTER:
        metric.sum.aggregation_temporality = cumulative
        metric.sum.is_monotonic = True
    for point in family.points:
        if family.kind is Kind.HISTOGRAM:
            filled = metric.histogram.data_points.add(
                start_time_unix_nano=started,
                time_unix_nano=now,
                count=sum(point.counts),
                sum=point.value,
                bucket_counts=point.counts,
                explicit_bounds=family.bounds,
            )
            attributes = filled.attributes
        else:
            points = metric.sum.data_points if family.kind is Kind.COUNTER else metric.gauge.data_points
            number = points.add(start_time_unix_nano=started, time_unix_nano=now, as_double=point.value)
            attributes = number.attributes
        for label, value in zip(family.label_names, point.labels, strict=True):
            put_value(attributes.add(key=label).value, value)
