"""`make demo`: the quickstart, driven from outside, and what it says about itself afterwards.

Starts the service on a free port in a temporary copy (own store, own inbox), drops files before and after the start,
posts signed webhooks and a forged one, waits for the runs by asking the API, and prints events, decisions, runs and
their lineage. Exit code 0 when everything is as promised, otherwise 1 and a sentence. `--keep` leaves the copy there.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from examples.demo_report import Report

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples" / "01-orders" / "data"
SECRET = "quickstart-secret"
PATIENCE = 45.0
ORDER = {
    "order_id": "O-900001",
    "ordered_at": "2026-03-01T09:30:00Z",
    "updated_at": "2026-03-01T09:30:00Z",
    "customer": " C-0042 ",
    "country": "no",
    "sku": "GRINDER-BURR",
    "quantity": 2,
    "amount": "2,941.20",
    "currency": "nok",
}


class Broken(Exception):
    """The demonstration did not go as promised; the sentence says how."""


class Service:
    """The service as a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Copy what the service needs: the configuration, with another port, and the example."""
        (self.folder / "config").mkdir()
        (self.folder / "inbox").mkdir()
        shutil.copy(ROOT / "config" / "quickstart.yaml", self.folder / "config")
        shutil.copytree(ROOT / "examples" / "01-orders", self.folder / "examples" / "01-orders")
        (self.folder / "examples" / "__init__.py").touch()  # or the package of the checkout would be preferred
        overlay = f"service: {{name: demo, listen: '127.0.0.1:{self.port}'}}\n"
        (self.folder / "config" / "demo.yaml").write_text(overlay)

    def drop(self, name: str) -> None:
        """Put a file into the inbox under its final name at once, as a good sender does."""
        hidden = self.folder / "inbox" / f".{name}"
        shutil.copy(DATA / name, hidden)
        hidden.rename(self.folder / "inbox" / name)

    def command(self) -> list[str]:
        """Return what starts it."""
        files = ["config/quickstart.yaml", "--overlay", "config/demo.yaml"]
        return [sys.executable, "-m", "tidegate", "serve", *files]

    def start(self) -> float:
        """Start it and wait until it is ready; return how many seconds that took."""
        begun = time.monotonic()
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in ("QUICKSTART_SECRET", "TIDEGATE_LOG_FORMAT"):
            environ.pop(name, None)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, env=environ, stdout=log, stderr=log)
        self.until("the service is ready", lambda: self.ask("GET", "/readyz")[0] == 200, 2 * PATIENCE)
        return time.monotonic() - begun

    def until(self, what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Ask again and again until it holds. Raises Broken when it does not in time, or when the service ends."""
        deadline = time.monotonic() + patience
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise Broken(f"the service ended with exit code {self._process.returncode}:\n{self.tail()}")
            try:
                if holds():
                    return
            except OSError:
                pass  # it does not listen yet
            if time.monotonic() > deadline:
                raise Broken(f"after {patience:.0f} s it is still not so that {what}. The service said:\n{self.tail()}")
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send one request; return status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, {"Content-Type": "application/json", **named})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def read(self, path: str) -> Any:
        """Read from the API. Raises Broken for an error."""
        status, found = self.ask("GET", f"/api/v1/{path}")
        if status != 200:
            raise Broken(f"GET /api/v1/{path} answered {status}: {found}")
        return found

    def stop(self) -> float:
        """Stop it softly; return how many seconds that took. Raises Broken when it does not end well."""
        begun = time.monotonic()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"the service did not stop within 20 s:\n{self.tail()}") from error
        if code != 0:
            raise Broken(f"the service stopped with exit code {code}:\n{self.tail()}")
        return time.monotonic() - begun

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:]) if self._log.exists() else ""


def post(service: Service, order: Mapping[str, Any], secret: str = SECRET) -> tuple[int, Any]:
    """Post an order, signed as the quickstart wants it."""
    body = json.dumps(order).encode()
    return service.ask(
        "POST", "/hooks/orders", body, X_Signature=hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    )


def drive(service: Service, report: Report) -> None:
    """Let things happen and tell what the service answered."""
    report.title("What happens")
    service.prepare()
    service.drop("orders-2026-01.csv")
    report.did("orders-2026-01.csv dropped into ./inbox while the service is down")
    report.did(f"service started on {service.url}, ready", f"{service.start():.1f} s")
    service.drop("orders-2026-02.csv")
    report.did("orders-2026-02.csv dropped; 20 of its orders are corrections of January")
    status, answer = post(service, ORDER)
    _expect(status == 202, f"the signed order was answered with {status}: {answer}")
    report.did("POST /hooks/orders, signed", f"{status}, durable as {answer['events'][0]['event']}")
    status, again = post(service, ORDER)
    _expect(again["events"] == [{**answer["events"][0], "duplicate": True}], f"the repetition was answered {again}")
    report.did("the same again, as senders do that missed the answer", f"{status}, a duplicate of the same event")
    status, answer = post(service, ORDER, "not-the-secret")
    _expect(status == 401, f"the forged order was answered with {status}: {answer}")
    report.did("POST /hooks/orders, signed with another secret", f"{status}, refused, nothing stored")
    service.drop("orders-broken.csv")
    report.did("orders-broken.csv dropped: not one usable row")


def settled(service: Service) -> bool:
    """Say whether all the runs that must come are there and have ended."""
    runs = service.read("runs?limit=100")["items"]
    ended = [(run["pipeline"], run["state"]) for run in runs if run["state"] in ("succeeded", "failed", "cancelled")]
    return len(ended) == len(runs) == 7 and ended.count(("announce", "succeeded")) == 3


def tell(service: Service, report: Report) -> None:
    """Print what the service knows about it, and hold it against what must be."""
    events = [service.read(f"events/{item['uid']}") for item in service.read("events?limit=100")["items"]]
    events.sort(key=lambda event: event["received_at"])
    report.events(events)
    runs = [service.read(f"runs/{item['uid']}") for item in service.read("runs?limit=100")["items"]]
    runs.sort(key=lambda run: run["created_at"])
    report.runs(runs)
    states = sorted(run["state"] for run in runs if run["pipeline"] == "orders")
    _expect(states == ["failed", "succeeded", "succeeded", "succeeded"], f"the runs of orders ended {states}")
    for run in runs:
        _expect(bool(run["events"]) and bool(run["trace_id"]), f"run {run['uid']} does not know its event or trace")
    posted = next(run for run in runs if run["trigger"] == "order-posted")
    failed = next(run for run in runs if run["state"] == "failed")
    _expect("row_count" in str(failed["error"]) or "rows" in str(failed["error"]), f"it failed by {failed['error']}")
    report.tasks(posted, service.read(f"runs/{posted['uid']}/logs")["lines"])
    for run in (posted, failed):
        lineage = service.read(f"lineage?event={run['events'][0]['uid']}&direction=down")
        kinds = {node["kind"] for node in lineage["nodes"]}
        wanted = {"event", "decision", "run"} | ({"dataset"} if run is posted else set())
        _expect(wanted <= kinds, f"the lineage of run {run['uid']} shows only {sorted(kinds)}")
        report.lineage(run, lineage)
    report.refusals(service.read("sensors/hooks")["refusals"])
    _look_into_table(service, report)


def _look_into_table(service: Service, report: Report) -> None:
    import duckdb

    with duckdb.connect(str(service.folder / ".tidegate" / "warehouse.duckdb"), read_only=True) as warehouse:
        sums = "select count(*), count(distinct order_id), min(ordered_at)::date, max(ordered_at)::date from orders"
        rows, distinct, first, last = warehouse.execute(sums).fetchall()[0]
        _expect(rows == distinct, f"the table holds {rows} rows of {distinct} orders")
        wanted = "select columns(*)::text from orders where order_id = ?"
        mine = warehouse.execute(wanted, [ORDER["order_id"]])
        columns = [column[0] for column in mine.description or ()]
        found = mine.fetchall()
        _expect(len(found) == 1, f"the posted order is in the table {len(found)} times")
        best = warehouse.execute(
            "select currency, sum(orders)::int, sum(revenue)::decimal(18, 2) from revenue group by all order by 2 desc"
        ).fetchall()
    datasets = {item["name"].rpartition("/")[2]: item["rows"] for item in service.read("datasets")["items"]}
    _expect(datasets.get("main.orders") == rows, f"the ledger says {datasets}, and the table holds {rows} rows")
    report.warehouse(f"{rows:,} orders from {first} to {last}, each once", columns, found[0], best)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> int:
    """Run the demonstration."""
    arguments = argparse.ArgumentParser(description="Drive the quickstart and show runs and their lineage.")
    arguments.add_argument("--keep", action="store_true", help="leave the temporary copy there")
    keep = arguments.parse_args().keep
    report = Report()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    service = Service(folder)
    try:
        drive(service, report)
        service.until("all seven runs have ended", lambda: settled(service))
        report.did("all runs have ended", f"{time.monotonic() - begun:.1f} s after the beginning")
        tell(service, report)
        stopped = service.stop()
    except Exception as error:  # noqa: BLE001 - whatever it is, it was promised otherwise
        said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}\n{service.tail()}"
        report.failed(said)
        return 1
    finally:
        service.kill()
        if keep:
            report.note(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    report.done(f"stopped softly in {stopped:.1f} s; everything as promised, {time.monotonic() - begun:.1f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
