"""What the documents show works: configurations are checked, Python runs, commands parse, links lead somewhere."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from config.check import check
from sensors.registry import load_registry
from tests.docs.blocks import ROOT, Block, blocks, commands, documents

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("[0-9]*/README.md"))
YAML = [pytest.param(block, id=block.name) for block in blocks("yaml") if "engines.md" not in block.name]
PYTHON = [pytest.param(block, id=block.name) for block in blocks("python") if not block.mark]
COMMANDS = [pytest.param(words, id=place) for place, words in commands()]
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")

# What a fragment may refer to without showing it.
AROUND = """
sensors:
  landing: {kind: files, path: ./inbox, start: now}
  hooks: {kind: webhook, path: /hooks/around, verify: {scheme: bearer, secret: "env:AROUND"}}
pipelines:
  report: {engine: command, argv: [echo]}
"""


@pytest.mark.parametrize("block", YAML)
def test_a_configuration_in_a_document_has_no_problem(block: Block, tmp_path: Path) -> None:
    """`tidegate check` finds nothing wrong with it, beside the files that the document makes."""
    text = block.text
    (tmp_path / "sales.py").write_text(_block("first-pipeline.md", "python").text)
    if block.mark == "kind":
        (tmp_path / "lines.py").write_text(_block("write-a-sensor.md", "python", "kind").text)
    file = tmp_path / "tidegate.yaml"
    file.write_text(text)
    layers = [file]
    if block.mark == "fragment":
        around = tmp_path / "around.yaml"
        around.write_text(AROUND)
        layers = [around]

    found = check(layers, [file] if block.mark == "fragment" else [], environ={})

    assert [str(problem) for problem in found] == []


@pytest.mark.parametrize("block", PYTHON)
def test_python_in_a_document_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as a module of its own, and every pipeline in it has a definition that can be used."""
    module = _run(block, tmp_path, monkeypatch)

    from pipelines.authoring import Pipeline, Task
    from pipelines.describe import describe

    made = [value for value in vars(module).values() if isinstance(value, Task | Pipeline)]
    assert made
    assert all(describe(one).tasks for one in made)


async def test_the_sensor_of_the_how_to_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind that the how-to shows passes the kit, by the test that the how-to shows."""
    plugin = tmp_path / "lines.py"
    plugin.write_text(_block("write-a-sensor.md", "python", "kind").text)
    kind = load_registry([plugin], installed=[]).get("lines")
    assert kind is not None
    names: dict[str, Any] = {"sensors": [kind]}
    exec(compile(_block("write-a-sensor.md", "python", "kind-test").text, "write-a-sensor.md", "exec"), names)
    base = tmp_path / "base"
    base.mkdir()

    await names["test_lines"](base)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_in_a_document_parses(words: list[str], tmp_path: Path) -> None:
    """The command exists and takes these arguments."""
    from tidegate.cli.main import app

    command: Any = typer.main.get_command(app)
    context = command.make_context("tidegate", [], resilient_parsing=True)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        name = rest.pop(0)
        command = command.commands[name]
        context = type(context)(command, parent=context, info_name=name)
    command.parse_args(context, rest)

    assert [*getattr(context, "_protected_args", ()), *context.args] == [], f"no such command: {' '.join(words)}"


@pytest.mark.parametrize("file", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    """Every relative link of a document names a file that is there."""
    wanted = [found[1] for found in _LINK.finditer(file.read_text()) if "://" not in found[1]]

    assert [link for link in wanted if not (file.parent / link).exists()] == []


def test_generated_pages_are_fresh() -> None:
    """The reference says what the code says; `python -m docs.generate` writes it."""
    from docs.generate import HERE, pages

    stale = [name for name, text in pages().items() if (HERE / name).read_text() != text]

    assert stale == []


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_has_no_problem(folder: Path) -> None:
    """The configuration of each example folder passes the check."""
    assert [str(problem) for problem in check([folder / "tidegate.yaml"], environ={})] == []


async def test_the_orders_example_does_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the files, the table ends the same: each order once, in its newest version."""
    import polars as pl

    orders: Any = importlib.import_module("examples.01-orders.pipeline")
    data = ROOT / "examples" / "01-orders" / "data"
    files = [data / "orders-2026-01.csv", data / "orders-2026-02.csv"]
    clean = [orders.clean(orders.extract(str(file))) for file in files]
    monkeypatch.chdir(tmp_path)

    merged = []
    for parts in (clean, clean[::-1], [*clean, clean[0]]):
        table = parts[0]
        for part in parts[1:]:
            monkeypatch.setattr(orders, "_present", lambda _, table=table: table)
            table = orders.orders(part)
        merged.append(table.sort("order_id"))

    assert merged[0].equals(merged[1])
    assert merged[0].equals(merged[2])
    assert merged[0]["order_id"].is_unique().all()
    assert 1_900 < merged[0].height < 2_000
    assert merged[0].filter(pl.col("updated_at") > pl.col("ordered_at")).height >= 18
    assert set(merged[0]["currency"]) == set(orders.CURRENCIES)
    assert orders.clean(orders.extract(str(data / "orders-broken.csv"))).height == 0
    assert orders.revenue(merged[0])["orders"].sum() == merged[0].height


def test_the_data_of_the_example_are_what_its_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed files come from the seed."""
    script: Any = importlib.import_module("examples.01-orders.make_data")
    before = {file.name: file.read_bytes() for file in sorted(script.DATA.glob("*.csv"))}
    monkeypatch.setattr(script, "DATA", tmp_path)

    script.main()

    assert {file.name: file.read_bytes() for file in sorted(tmp_path.glob("*.csv"))} == before


def _block(file: str, language: str, mark: str = "") -> Block:
    return next(block for block in blocks(language) if block.file.name == file and block.mark == mark)


def _run(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    name = f"shown_{abs(hash(block.name))}"
    file = folder / f"{name}.py"
    file.write_text(block.text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
