"""Results of checks are counted by dataset, check and outcome."""

from pipelines.run import CheckResult
from sensors.clock import SystemClock
from tidegate.absorb import Facts
from tidegate.projection import Aftermath
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import Metrics


class _Silent:
    """A tracing that nobody listens to."""

    def event(self, *_: object) -> None: ...

    def decision(self, *_: object) -> None: ...

    def trigger_event(self, *_: object) -> None: ...


def check(name: str, *, passed: bool, severity: str = "fail") -> CheckResult:
    return CheckResult(check=name, task="t", dataset="daily", passed=passed, severity=severity, message="m", at=1)


def test_results_that_became_durable_are_counted() -> None:
    """Passed, warned and failed are counted apart, with the configured names as labels."""
    metrics = Metrics()
    aftermath = Aftermath(_Silent(), Instruments(metrics), SystemClock())  # type: ignore[arg-type]
    results = [
        check("row_count", passed=True),
        check("between(amount)", passed=False),
        check("unique(id)", passed=False, severity="warn"),
    ]
    for _ in range(2):
        aftermath(Facts(checks=results))
    shown = metrics.render()

    for name, outcome in (("row_count", "passed"), ("between(amount)", "failed"), ("unique(id)", "warned")):
        line = f'tidegate_checks_total{{dataset_name="daily",check_name="{name}",outcome="{outcome}"}} 2'
        assert line in shown
