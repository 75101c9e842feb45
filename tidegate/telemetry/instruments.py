"""The metrics that the service keeps, by name: OpenTelemetry's where they exist, `tidegate.*` otherwise.

One method per thing that happens; each costs about a microsecond at most. Durations are seconds. Labels are configured
names and fixed words, never uids, keys or anything a sender chose.
"""

from collections.abc import Callable, Mapping

from sensors.health import SensorHealth, ShardLag
from tidegate.telemetry.metrics import RUN_BUCKETS, SIZE_BUCKETS, Metrics
from tidegate.telemetry.model import Shape, known_method

_NONE = Shape()
_MOST_SHARDS = 1_000
_STATES = ("starting", "healthy", "unhealthy", "paused", "standby", "stopped")


class Instruments:
    """Every metric of one process, over one registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._shapes: Mapping[str, Shape] = {}
        self._requests = metrics.histogram(
            "http.server.request.duration",
            "Duration of HTTP requests that were answered.",
            "s",
            ("http.request.method", "http.route", "http.response.status_code", "error.type"),
        )
        self._process = metrics.histogram(
            "messaging.process.duration",
            "From the receipt of an event until it and all it caused were durable.",
            "s",
            ("messaging.system", "messaging.operation.name", "messaging.destination.name"),
        )
        self._consumed = metrics.counter(
            "messaging.client.consumed.messages",
            "Messages that were handed to the application.",
            "{message}",
            ("messaging.system", "messaging.operation.name", "messaging.destination.name"),
        )
        self._events = metrics.counter(
            "tidegate.sensor.events",
            "What sensors brought, by what became of it.",
            "{event}",
            ("sensor.name", "outcome"),
        )
        self._sensor_errors = metrics.counter(
            "tidegate.sensor.errors", "Failures of sensors, by their kind.", "{error}", ("sensor.name", "error.type")
        )
        self._sensor_state = metrics.gauge(
            "tidegate.sensor.state", "1 for the state that a sensor is in.", "1", ("sensor.name", "state")
        )
        self._sensor_success = metrics.gauge(
            "tidegate.sensor.last_success", "When a sensor last did its work (Unix time).", "s", ("sensor.name",)
        )
        self._decisions = metrics.counter(
            "tidegate.decisions", "Decisions that were stored, by outcome.", "{decision}", ("trigger.name", "outcome")
        )
        self._triggered = metrics.counter(
            "tidegate.trigger_events", "Trigger events.", "{event}", ("trigger.name", "cicd.pipeline.name")
        )
        self._runs = metrics.histogram(
            "cicd.pipeline.run.duration",
            "How long runs waited (pending) and took (executing).",
            "s",
            ("cicd.pipeline.name", "cicd.pipeline.run.state", "cicd.pipeline.result", "error.type"),
            RUN_BUCKETS,
        )
        self._run_errors = metrics.counter(
            "cicd.pipeline.run.errors",
            "Runs that ended with an error.",
            "{error}",
            ("cicd.pipeline.name", "error.type"),
        )
        self._tasks = metrics.histogram(
            "tidegate.task.duration",
            "Duration of task attempts.",
            "s",
            ("cicd.pipeline.name", "cicd.pipeline.task.name", "cicd.pipeline.task.run.result"),
            RUN_BUCKETS,
        )
        self._checks = metrics.counter(
            "tidegate.checks",
            "Results of checks of datasets: passed, warned, failed.",
            "{check}",
            ("dataset.name", "check.name", "outcome"),
        )
        self._system_errors = metrics.counter(
            "cicd.system.errors", "Errors of the service itself.", "{error}", ("cicd.system.component", "error.type")
        )
        self._alerts = metrics.counter(
            "tidegate.alerts",
            "Alerts by what became of them: sent, failed, suppressed.",
            "{alert}",
            ("alert.route", "alert.kind", "outcome"),
        )
        self._alert_attempts = metrics.counter(
            "tidegate.alert.attempts",
            "Attempts to deliver a message of alerts: taken, not_taken.",
            "{attempt}",
            ("alert.route", "outcome"),
        )
        self._commits = metrics.histogram("tidegate.store.commit.duration", "Duration of group commits.", "s").labels()
        self._groups = metrics.histogram(
            "tidegate.store.commit.items", "Items per group commit.", "{item}", (), SIZE_BUCKETS
        ).labels()

    def sensors(self, shapes: Mapping[str, Shape]) -> None:
        """Say how events of each sensor look (see `model.shape_of`); again after a reload."""
        self._shapes = shapes

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP request was answered. `route` is the template, never the raw path."""
        error = str(status) if status >= 500 else ""
        self._requests.labels(known_method(method), route, str(status), error).observe(seconds)

    def event(self, sensor: str, seconds: float) -> None:
        """An event is durable, so long after it was received."""
        system = self._shapes.get(sensor, _NONE).system or "tidegate"
        self._process.labels(system, "process", sensor).observe(seconds)
        self._consumed.labels(system, "process", sensor).inc()

    def brought(self, sensor: str, outcome: str, n: int) -> None:
        """A sensor brought `n` things with this outcome (`stored`, `duplicate`, `dead`, `skipped`, …)."""
        if n:
            self._events.labels(sensor, outcome).inc(n)

    def sensor_error(self, sensor: str, error: BaseException) -> None:
        """A sensor failed."""
        self._sensor_errors.labels(sensor, type(error).__name__).inc()

    def sensor_state(self, sensor: str, state: str, last_success: int | None) -> None:
        """A sensor is in `state`; `last_success` is UTC microseconds."""
        for known in _STATES:
            self._sensor_state.labels(sensor, known).set(1 if known == state else 0)
        if last_success is not None:
            self._sensor_success.labels(sensor).set(last_success / 1e6)

    def decision(self, trigger: str, outcome: str) -> None:
        """A decision was stored."""
        self._decisions.labels(trigger, outcome).inc()

    def triggered(self, trigger: str, pipeline: str) -> None:
        """A trigger fired."""
        self._triggered.labels(trigger, pipeline).inc()

    def run_started(self, pipeline: str, waited: float) -> None:
        """A run was claimed, so long after it was made."""
        self._runs.labels(pipeline, "pending", "", "").observe(max(0.0, waited))

    def run_ended(self, pipeline: str, result: str, error_type: str | None, seconds: float) -> None:
        """A run ended."""
        self._runs.labels(pipeline, "executing", result, error_type or "").observe(max(0.0, seconds))
        if error_type is not None:
            self._run_errors.labels(pipeline, error_type).inc()

    def task_ended(self, pipeline: str, task: str, result: str, seconds: float) -> None:
        """An attempt of a task ended."""
        self._tasks.labels(pipeline, task, result).observe(max(0.0, seconds))

    def checked(self, dataset: str, check: str, *, passed: bool, severity: str) -> None:
        """A check of a dataset has a result."""
        outcome = "passed" if passed else "warned" if severity == "warn" else "failed"
        self._checks.labels(dataset, check, outcome).inc()

    def committed(self, items: int, seconds: float) -> None:
        """A group commit of so many items is done."""
        self._commits.observe(seconds)
        self._groups.observe(items)

    def system_error(self, component: str, error_type: str) -> None:
        """Something of the service itself failed (`store`, `dispatcher`, `ingest`, …)."""
        self._system_errors.labels(component, error_type).inc()

    def alert(self, route: str, kind: str, outcome: str, n: int) -> None:
        """So many alerts were sent, failed for good, or were suppressed."""
        self._alerts.labels(route, kind, outcome).inc(n)

    def alert_attempt(self, route: str, outcome: str) -> None:
        """A target took a message, or did not."""
        self._alert_attempts.labels(route, outcome).inc()

    def alerts_undelivered(self, observe: Callable[[], Mapping[str, int]]) -> None:
        """Name who knows how many messages could not be delivered so far, by route."""
        self.metrics.observed_gauge(
            "tidegate.alert.undelivered",
            "Messages of alerts that were tried and not taken, and are tried again.",
            "{message}",
            ("alert.route",),
            lambda: {(route,): n for route, n in observe().items()},
        )

    def active_runs(self, observe: Callable[[], Mapping[str, int]]) -> None:
        """Name who knows how many runs this process holds, by pipeline."""
        self.metrics.observed_gauge(
            "cicd.pipeline.run.active",
            "Runs under way in this process.",
            "{run}",
            ("cicd.pipeline.name", "cicd.pipeline.run.state"),
            lambda: {(pipeline, "executing"): n for pipeline, n in observe().items()},
        )

    def backlog(self, observe: Callable[[], tuple[int, int]]) -> None:
        """Name who knows what waits for a commit, as (items, bytes)."""
        gauge = self.metrics.observed_gauge
        gauge("tidegate.store.backlog", "Items that wait for a commit.", "{item}", (), lambda: {(): observe()[0]})
        gauge("tidegate.store.backlog.size", "Bytes that wait for a commit.", "By", (), lambda: {(): observe()[1]})

    def lags(self, observe: Callable[[], Mapping[str, SensorHealth]]) -> None:
        """Name who knows how far behind sensors are, in all and by shard (a partition); the first 1,000 of each."""

        def of(pick: Callable[[ShardLag], float | None]) -> Callable[[], dict[tuple[str, ...], float]]:
            def points() -> dict[tuple[str, ...], float]:
                found: dict[tuple[str, ...], float] = {}
                for sensor, health in observe().items():
                    for shard in sorted(health.shards)[:_MOST_SHARDS]:
                        value = pick(health.shards[shard])
                        if value is not None:
                            found[sensor, shard] = value
                return found

            return points

        gauge, labels = self.metrics.observed_gauge, ("sensor.name", "shard")
        gauge(
            "tidegate.sensor.lag",
            "How far a sensor is behind its source, in the kind's own unit.",
            "1",
            ("sensor.name",),
            lambda: {(sensor,): health.lag for sensor, health in observe().items() if health.lag is not None},
        )
        gauge("tidegate.shard.lag", "Records still to be read.", "{record}", labels, of(lambda shard: shard.records))
        gauge("tidegate.shard.lag.time", "Age of the last record read.", "s", labels, of(lambda shard: shard.seconds))
        gauge(
            "tidegate.shard.last_success",
            "When records of a shard last became durable (Unix time).",
            "s",
            labels,
            of(lambda shard: None if shard.last_success is None else shard.last_success / 1e6),
        )

    def process(self) -> None:
        """Show this process itself: memory, CPU time, open files."""
        import psutil

        me = psutil.Process()
        self.metrics.observed_gauge(
            "process.memory.usage", "Resident memory.", "By", (), lambda: {(): me.memory_info().rss}
        )

        def cpu() -> dict[tuple[str, ...], float]:
            times = me.cpu_times()
            return {("user",): times.user, ("system",): times.system}

        self.metrics.observed_counter("process.cpu.time", "CPU time.", "s", ("cpu.mode",), cpu)
        self.metrics.observed_gauge(
            "process.unix.file_descriptor.count", "Open files.", "{file_descriptor}", (), lambda: {(): me.num_fds()}
        )
        self.metrics.observed_gauge(
            "process.start.time", "When the process started (Unix time).", "s", (), lambda: {(): me.create_time()}
        )
