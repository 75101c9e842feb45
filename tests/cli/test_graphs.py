"""Pipelines and graphs on the command line."""

from collections.abc import Callable

from click.testing import Result

Ask = Callable[..., Result]


def test_pipelines_are_listed_and_shown(ask: Ask) -> None:
    """The list names pipelines with their tasks; one is shown with parameters and graph, within 80 columns."""
    listed = ask("pipelines")
    assert listed.exit_code == 0
    assert "orders" in listed.output

    shown = ask("pipelines", "show", "orders")
    assert shown.exit_code == 0
    assert "path (str, required)" in shown.output
    assert "○ " in shown.output
    assert all(len(line) <= 80 for line in shown.output.splitlines())
    assert ask("pipelines", "show", "orders", "--mermaid").output.startswith("flowchart TD\n")
    assert ask("pipelines", "show", "orders", "--svg").output.startswith("<svg ")
    assert ask("pipelines", "show", "nowhere").exit_code == 1


def test_a_run_is_drawn_with_its_states(ask: Ask) -> None:
    """`runs show --graph` marks each task by how it ended."""
    import json

    runs = json.loads(ask("runs", "--status", "failed", "--json").output)["items"]
    drawn = ask("runs", "show", runs[0]["uid"], "--graph")

    assert drawn.exit_code == 0
    assert "✗" in drawn.output
    assert ask("runs", "show", runs[0]["uid"], "--svg").output.startswith("<svg ")
    assert ask("runs", "slices", runs[0]["uid"]).exit_code == 0
