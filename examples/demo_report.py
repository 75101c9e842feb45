"""What `make demo` prints: plain facts from the API in, tables and trees on the terminal out."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tidegate.cli import out
from tidegate.cli.lineage import trees

Facts = Mapping[str, Any]


class Report:
    """Prints the demonstration, part by part."""

    def __init__(self) -> None:
        terminal = Console()
        width = min(150, terminal.width) if terminal.is_terminal else 150
        self._console = Console(width=width, highlight=False, emoji=False)

    def title(self, text: str, command: str = "") -> None:
        """Begin a part; `command` shows the same."""
        title = Text.assemble((text, "bold"), (f"   $ {command}" if command else "", "dim"))
        self._console.print()
        self._console.print(Rule(title, align="left", style="cyan"))

    def did(self, what: str, answer: str = "") -> None:
        """Tell one thing that was done, and what came of it."""
        self._console.print(Text.assemble(("  ▸ ", "cyan"), what, (f"  → {answer}" if answer else "", "green")))

    def note(self, text: str) -> None:
        """Print an aside."""
        self._console.print(Text(f"  {text}", "dim"))

    def events(self, events: Sequence[Facts]) -> None:
        """Show what came in and what the triggers decided."""
        self.title("Events, and what each trigger decided", "tidegate events")
        for event in events:
            subject = event["subject"] or f"{event['size']} bytes"
            sensor = Text(f"{event['sensor']:<8}", "cyan")
            self._console.print(out.line(" ", Text(event["uid"], "bold"), sensor, event["type"], out.words(subject)))
            for found in event["decisions"]:
                reason = out.words(found["reason"], "dim")
                self._console.print(out.line("     ", out.state(found["outcome"]), found["trigger"], reason))

    def runs(self, runs: Sequence[Facts]) -> None:
        """Show all runs with their cause and trace."""
        self.title("Runs, each with its causing event and its trace", "tidegate runs")
        for run in runs:
            took = Text(f"{out.took(run['duration']).plain:>6}")
            name = Text(f"{run['pipeline']:<8}", "cyan")
            cause = run["events"][0]["uid"]
            self._console.print(out.line(" ", Text(run["uid"], "bold"), name, took, out.state(run["state"])))
            trace = Text(run["trace_id"], "magenta")
            self._console.print(out.line("     ", Text("by", "dim"), cause, Text("trace", "dim"), trace))
            if run["error"]:
                self._console.print(out.line("     ", out.words(run["error"], "red")))

    def tasks(self, run: Facts, lines: Sequence[Facts]) -> None:
        """Show the tasks of one run and what they printed."""
        self.title("One run in full", f"tidegate runs show {run['uid']}")
        table = _table("TASK", "STATE", "NEEDS", "TOOK", "IT PRINTED")
        for task in run["tasks"]:
            said = [out.clean(line["text"]) for line in lines if line["task"] == task["task"]]
            table.add_row(
                task["task"],
                out.state(task["state"]),
                Text(", ".join(task["needs"]) or "–", "dim"),
                out.took(task["duration"]),
                Text("\n".join(said), "dim"),
            )
        self._indented(table)

    def lineage(self, run: Facts, lineage: dict[str, Any]) -> None:
        """Show what came of the event that caused a run."""
        event = run["events"][0]
        self.title(
            f"Lineage: event ⇒ decision ⇒ run ({run['state']}) ⇒ output", f"tidegate lineage --event {event['uid']}"
        )
        for tree in trees(lineage):
            self._indented(tree)

    def refusals(self, refusals: Sequence[Facts]) -> None:
        """Show what the door refused."""
        self.title("Refused at the door", "curl …/api/v1/sensors/hooks")
        for refusal in refusals:
            self._console.print(
                Text.assemble(
                    ("  ✖ ", "yellow"), f"{refusal['status']} {refusal['code']}: ", (refusal["reason"], "dim")
                )
            )

    def warehouse(
        self, sentence: str, columns: Sequence[str], row: Sequence[Any], sums: Sequence[Sequence[Any]]
    ) -> None:
        """Show what is in the table."""
        self.title("In the DuckDB table main.orders")
        self._console.print(f"  {sentence}; the posted one as it was cleaned:")
        table = _table(*(column.upper() for column in columns))
        table.add_row(*(str(value) for value in row))
        self._indented(table)
        totals = _table("CURRENCY", ">ORDERS", ">REVENUE")
        for currency, orders, revenue in sums:
            totals.add_row(currency, f"{orders:,}", f"{revenue:,}")
        self._indented(totals)

    def failed(self, sentence: str) -> None:
        """Say that it did not go as promised."""
        self._console.print()
        self._console.print(Text.assemble(("demo: ", "bold red"), out.clean(sentence, lines=True)))

    def done(self, sentence: str) -> None:
        """Say that it went as promised."""
        self._console.print()
        self._console.print(Text.assemble(("✔ ", "bold green"), sentence))

    def _indented(self, part: RenderableType) -> None:
        self._console.print(Padding(part, (0, 0, 0, 2)))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table
