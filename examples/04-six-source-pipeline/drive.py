"""Drives example 04: of six sources one fails twice and comes, another is broken until it is mended.

Prints what ran and what did not, before and after the run is resumed; exit code 0 when everything is as promised,
otherwise 1 and a sentence.
"""

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from examples.demo import Broken, Service  # noqa: E402 - the example is a folder, not a package
from examples.demo_report import Report  # noqa: E402
from tidegate.graphs.nodes import run_nodes  # noqa: E402
from tidegate.graphs.text import draw  # noqa: E402

DAY = "2026-03-02"
FLAKY, BROKEN = "erp", "pos"
SOURCES = ("crm", "erp", "web", "pos", "staff", "fx")


class SixSources(Service):
    """The service with this example's configuration."""

    @property
    def house(self) -> Path:
        """Where the example lives."""
        return self.folder / "example"

    def prepare(self) -> None:
        """Copy the example, with a free port; one source will fail twice."""
        shutil.copytree(Path(__file__).parent, self.house)
        (self.house / "sources" / f"{FLAKY}.flaky").write_text("2")
        (self.folder / "demo.yaml").write_text(f"service: {{listen: '127.0.0.1:{self.port}'}}\n")

    def command(self) -> list[str]:
        """Return what starts it."""
        return [sys.executable, "-m", "tidegate", "serve", "example/tidegate.yaml", "--overlay", "demo.yaml"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the API to do something."""
        status, answer = self.ask(
            "POST", f"/api/v1/{path}", json.dumps(body).encode(), **{"Content-Type": "application/json"}
        )
        _expect(status in (200, 201), f"{path} was answered with {status}: {answer}")
        return answer

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for a run's end; return it in full."""
        self.until(f"run {run} has ended", lambda: self.read(f"runs/{run}")["state"] in ("succeeded", "failed"))
        found: dict[str, Any] = self.read(f"runs/{run}")
        return found

    def slices(self, run: str) -> dict[str, dict[str, Any]]:
        """Return a run's slices by `task[partition]`."""
        found = self.read(f"runs/{run}/slices?limit=100")["items"]
        return {f"{one['task']}[{one['partition']}]": one for one in found}

    def calls(self) -> Counter[str]:
        """Return how often each function was called, by what it was called for."""
        log = self.house / "calls.log"
        return Counter(log.read_text().splitlines() if log.exists() else [])


def drive(service: SixSources, report: Report) -> None:
    """Let a day fail, be mended and go on."""
    report.title("What happens")
    service.prepare()
    report.did(f"service started on {service.url}, ready", f"{service.start():.1f} s")
    first = service.ended(service.post("runs", {"pipeline": "day", "params": {"day": DAY}})["uid"])
    _failed(service, report, first)
    before = service.calls()

    (service.house / "sources" / f"{BROKEN}.json").write_text('{"total": 910.25}')
    report.did(f"somebody mends {BROKEN}", "and resumes the run")
    second = service.ended(service.post(f"runs/{first['uid']}/resume", {})["uid"])
    _expect(second["state"] == "succeeded", f"the resumed run {second['state']}: {second['error']}")
    again = service.calls() - before
    _resumed(service, report, second, again)


def _failed(service: SixSources, report: Report, run: dict[str, Any]) -> None:
    """The stage fails visibly, and nothing after it ran."""
    states = {task["task"]: task["state"] for task in run["tasks"]}
    _expect(run["state"] == "failed", f"the first run {run['state']}")
    _expect(states["fetch"] == "failed", f"fetch {states['fetch']}")
    _expect({states["stage"], states["report"]} <= {"upstream_failed", "skipped"}, f"after it: {states}")
    _expect(f"{BROKEN} reports no total" in run["error"], f"the run says {run['error']}")
    slices = service.slices(run["uid"])
    flaky, broken = slices[f"fetch[{FLAKY}]"], slices[f"fetch[{BROKEN}]"]
    _expect((flaky["state"], flaky["attempt"]) == ("succeeded", 3), f"{FLAKY}: {flaky}")
    _expect((broken["state"], broken["attempt"]) == ("failed", 1), f"{BROKEN}: {broken}")
    calls = service.calls()
    _expect(not {"stage", "report"} & set(calls), f"something ran after the failure: {calls}")
    _expect(not (service.house / "day.duckdb").exists(), "a table was published")
    report.did(f"{FLAKY} resets two connections", "and is there with the third attempt")
    report.did(f"{BROKEN} is broken, and is not asked again", broken["error"])
    report.did("the stage does not run, and the run fails", run["error"])
    _graph(run)


def _resumed(service: SixSources, report: Report, run: dict[str, Any], again: Counter[str]) -> None:
    """Only what was missing has run."""
    fetched = [what for what in again if what.startswith("fetch ")]
    _expect(fetched == [f"fetch {BROKEN}"], f"fetched again: {fetched}")
    _expect(again[f"clean {BROKEN}"] == again["stage"] == again["report"] == 1, f"resumed: {again}")
    whole = service.calls()
    _expect(all(whole[f"clean {name}"] == 1 for name in SOURCES), f"cleaned twice: {whole}")
    report.did("the resumed run does only what was missing", ", ".join(sorted(again)))
    _graph(run)
    import duckdb

    with duckdb.connect(str(service.house / "day.duckdb"), read_only=True) as table:
        rows, total = table.execute("select count(*), sum(total) from totals").fetchall()[0]
    _expect(rows == len(SOURCES), f"the table holds {rows} rows")
    report.did(f"{DAY}: {rows} sources", f"{total:,.2f}")


def _graph(run: dict[str, Any]) -> None:
    for line in draw(run_nodes(run["tasks"])):
        print(f"      {line}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def main() -> int:
    """Run the demonstration."""
    report = Report()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tidegate-six-") as name:
        service = SixSources(Path(name))
        try:
            drive(service, report)
            stopped = service.stop()
        except Exception as error:  # noqa: BLE001 - whatever it is, it was promised otherwise
            said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}\n{service.tail()}"
            report.failed(said)
            return 1
        finally:
            service.kill()
    report.done(f"stopped softly in {stopped:.1f} s; everything as promised, {time.monotonic() - begun:.1f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
