"""Drives example 03: six systems report for a day, five for the next, and the sixth comes late.

Prints what the service waits for, who is told when it is overdue, and what happens then; exit code 0 when everything
is as promised, otherwise 1 and a sentence. The deadline is four seconds here instead of six hours.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from examples.demo import Broken, Service  # noqa: E402 - the example is a folder, not a package
from examples.demo_report import Report  # noqa: E402

TOKEN = "example-token"
MONDAY, TUESDAY = "2026-03-02", "2026-03-03"
SYSTEMS = {"crm": 1200.0, "erp": 8400.5, "web": 3100.0, "pos": 910.25, "staff": 415.0}


class SixSources(Service):
    """The service with this example's configuration, and little patience."""

    def prepare(self) -> None:
        """Copy the example, with a free port and a deadline that can be waited for."""
        shutil.copytree(Path(__file__).parent, self.folder / "example")
        overlay = f"service: {{listen: '127.0.0.1:{self.port}'}}\ntriggers: {{all-six: {{join: {{within: 4s}}}}}}\n"
        (self.folder / "demo.yaml").write_text(overlay)

    def command(self) -> list[str]:
        """Return what starts it."""
        return [sys.executable, "-m", "tidegate", "serve", "example/tidegate.yaml", "--overlay", "demo.yaml"]

    def report(self, system: str, day: str) -> str:
        """Let a system report for a day; return the event's uid."""
        rates = {"date": day, "base": "EUR", "usd": 1.08}
        body = rates if system == "rates" else {"day": day, "total": SYSTEMS[system]}
        status, answer = self.ask(
            "POST", f"/hooks/{system}", json.dumps(body).encode(), Authorization=f"Bearer {TOKEN}"
        )
        _expect(status == 202, f"the report of {system} was answered with {status}: {answer}")
        uid: str = answer["events"][0]["event"]
        return uid

    def runs(self, pipeline: str) -> list[dict[str, Any]]:
        """Return the runs of a pipeline that have ended, oldest first."""
        found = self.read(f"runs?limit=100&pipeline={pipeline}")["items"]
        ended = [run for run in found if run["state"] in ("succeeded", "failed", "cancelled")]
        return [self.read(f"runs/{run['uid']}") for run in reversed(ended)]

    def verdict(self, event: str) -> dict[str, Any]:
        """Return what the join says about an event, as `tidegate explain` shows it."""
        verdicts = self.read(f"events/{event}/explain?trigger=all-six")["verdicts"]
        found: dict[str, Any] = verdicts[-1]
        return found


def drive(service: SixSources, report: Report) -> None:
    """Let two days happen."""
    report.title("What happens")
    service.prepare()
    report.did(f"service started on {service.url}, ready", f"{service.start():.1f} s")
    for system in (*SYSTEMS, "rates"):
        service.report(system, MONDAY)
    service.until("Monday's model has run", lambda: len(service.runs("model")) == 1)
    report.did(f"all six report for {MONDAY}", "the model runs, once")
    _monday(service)

    first, *_ = [service.report(system, TUESDAY) for system in SYSTEMS]
    waits = service.verdict(first)
    _expect(waits["outcome"] == "waiting", f"Tuesday's join says {waits['outcome']}")
    _expect("missing: fx" in waits["reason"], f"Tuesday waits, and says {waits['reason']}")
    report.did(f"five report for {TUESDAY}", waits["reason"])
    begun = time.monotonic()
    service.until("somebody is told that Tuesday is overdue", lambda: len(service.runs("chase")) == 1)
    overdue = service.verdict(first)
    _expect(overdue["outcome"] == "overdue", f"Tuesday's join says {overdue['outcome']}")
    chase = service.runs("chase")[0]
    _expect(chase["params"] == {"day": TUESDAY, "missing": ["fx"]}, f"it was told with {chase['params']}")
    _expect(len(service.runs("model")) == 1, "the model has run for Tuesday with five of six")
    report.did(f"{time.monotonic() - begun:.1f} s later it is overdue, and the model does not run", overdue["reason"])
    report.did("whoever has to chase it is told by the own event", f"missing: {', '.join(chase['params']['missing'])}")

    last = service.report("rates", TUESDAY)
    service.until("Tuesday's model has run after all", lambda: len(service.runs("model")) == 2)
    report.did("the sixth comes late (late: refire)", service.verdict(last)["reason"])
    again = service.report("pos", TUESDAY)
    service.until("Tuesday's model has run again", lambda: len(service.runs("model")) == 3)
    report.did("a shop corrects what it had reported (take: latest)", service.verdict(again)["reason"])


def _monday(service: SixSources) -> None:
    run = service.runs("model")[0]
    _expect(run["state"] == "succeeded", f"Monday's model {run['state']}: {run['error']}")
    _expect(run["key"] == MONDAY, f"its key is {run['key']}")
    _expect(len(run["events"]) == 6, f"it names {len(run['events'])} events as its causes")
    _expect(run["params"]["rate"] == 1.08, f"its rate is {run['params']['rate']}")
    systems = sorted(total["source"] for total in run["params"]["totals"])
    _expect(systems == sorted(SYSTEMS), f"it was given {systems}")


def tell(service: SixSources, report: Report) -> None:
    """Print runs, lineage and the table."""
    runs = service.runs("model")
    states = [(run["key"], run["generation"], run["state"]) for run in runs]
    wanted = [(MONDAY, 1, "succeeded"), (TUESDAY, 1, "succeeded"), (TUESDAY, 2, "succeeded")]
    _expect(states == wanted, f"the model ran as {states}")
    report.runs(runs)
    report.lineage(runs[0], service.read(f"lineage?event={runs[0]['events'][0]['uid']}&direction=down"))
    import duckdb

    with duckdb.connect(str(service.folder / "example" / ".tidegate" / "model.duckdb"), read_only=True) as table:
        found = table.execute("select day, count(*), sum(total_usd) from model group by day order by day").fetchall()
    _expect([(day, rows) for day, rows, _ in found] == [(MONDAY, 5), (TUESDAY, 5)], f"the table holds {found}")
    for day, rows, total in found:
        report.did(f"{day}: {rows} systems", f"{total:,.2f} USD")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def main() -> int:
    """Run the demonstration."""
    report = Report()
    begun = time.monotonic()
    os.environ["SOURCES_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory(prefix="tidegate-six-") as name:
        service = SixSources(Path(name))
        try:
            drive(service, report)
            tell(service, report)
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
