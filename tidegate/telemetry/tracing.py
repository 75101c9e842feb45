"""What the house tells tracing, and tracing switched off: every method is there and does nothing.

`spans.ExportedTracing` does it for real; `spans.open_tracing` chooses. Methods are called on the loop's thread, after
the facts that they tell of are durable. Moments are nanoseconds where the name does not say otherwise.
"""

from collections.abc import Callable, Mapping, Sequence

from pipelines.run import Run, RunState, TaskRun
from tidegate.store.records import StoredEvent
from tidegate.telemetry.model import Shape
from tidegate.telemetry.sampling import root_minter
from tidegate.telemetry.worker import Tally
from triggers.decision import Decision
from triggers.trigger_event import TriggerEvent


class Tracing:
    """Tracing switched off, and the shape of tracing switched on. `mint_root` mints the contexts of new traces."""

    enabled = False

    def __init__(self, mint_root: Callable[[], str] | None = None) -> None:
        self.mint_root = mint_root or root_minter(0.0)

    def sensors(self, shapes: Mapping[str, Shape]) -> None:
        """Say how events of each sensor look (see `model.shape_of`); again after a reload."""

    def request(
        self,
        route: str,
        method: str,
        status: int,
        start_ns: int,
        end_ns: int,
        context: str,
        parent: str | None = None,
        link: str | None = None,
        *,
        path: str | None = None,
        scheme: str = "http",
    ) -> None:
        """An HTTP request was answered. `route` is the template, `path` the path if it differs (never with a query)."""

    def event(
        self, stored: StoredEvent, start_ns: int, end_ns: int, parent: str | None = None, links: Sequence[str] = ()
    ) -> None:
        """An event was stored: its `process` span."""

    def decision(
        self, decision: Decision, parent: str | None, links: Sequence[str], start_ns: int, end_ns: int
    ) -> None:
        """A decision was stored: its `evaluate` span, if it has a context."""

    def trigger_event(
        self,
        trigger_event: TriggerEvent | None,
        run: Run | None,
        parent: str | None,
        links: Sequence[str],
        start_ns: int,
        end_ns: int,
    ) -> None:
        """A trigger fired: the run's creation context. Without a trigger event: a run that a person started."""

    def run(
        self,
        run: Run,
        links: Sequence[str] = (),
        *,
        state: RunState | None = None,
        error_type: str | None = None,
        end_us: int | None = None,
    ) -> None:
        """A run has ended. `links` are the contexts of its causing events.

        `state` and `end_us` (UTC microseconds) say how and when, for a row that was read before its end.
        """

    def task(self, run: Run, task_run: TaskRun, *, end_us: int | None = None) -> None:
        """An attempt of a task has ended. Skipped ones make no span: nothing took any time."""

    def poll(self, sensor: str, n: int, start_ns: int, end_ns: int, context: str, links: Sequence[str] = ()) -> None:
        """A read of a source brought `n` stored events. Empty reads make no span."""

    def flush(self, timeout: float) -> bool:
        """Send what waits; True when it was taken in time. Blocks up to `timeout` seconds: call it off the loop."""
        return True

    def close(self, timeout: float) -> bool:
        """Flush and end; True when everything was sent. Blocks up to about `timeout` seconds: call it off the loop."""
        return True

    @property
    def tally(self) -> Tally:
        """What became of the spans so far."""
        return Tally()
