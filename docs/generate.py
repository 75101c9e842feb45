# ruff: noqa: INP001, T201 - a script among documents, not a package; it prints what it wrote
"""Writes the reference pages that follow from the code: `python -m docs.generate`; `--check` only compares.

In flow the option models, registries, command tree, OpenAPI document and instruments; out flow Markdown pages. An
option without a description is an error here, so nothing stays undocumented.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel

from docs.option_words import COMMON, SECTIONS, WORDS
from tidegate.cli.kinds_view import options_of

HERE = Path(__file__).parent / "reference"
HEAD = "<!-- Made by `python -m docs.generate` from the code; edit that instead. -->\n"


class Undocumented(Exception):
    """An option that nobody described."""


def pages() -> Mapping[str, str]:
    """Return every generated page by file name."""
    makers: Mapping[str, Callable[[], Iterator[str]]] = {
        "config.md": config_page,
        "cli.md": cli_page,
        "http.md": http_page,
        "sensors.md": sensors_page,
        "engines.md": engines_page,
        "checks.md": checks_page,
        "metrics.md": metrics_page,
    }
    return {name: HEAD + "\n".join(make()).strip() + "\n" for name, make in makers.items()}


def config_page() -> Iterator[str]:
    """Describe every section of the configuration."""
    yield "\n# Configuration\n"
    yield SECTIONS["intro"]
    for title, model in _sections():
        yield f"\n## `{title}`\n"
        yield SECTIONS.get(title) or _doc(model)
        yield ""
        yield from _options(model, title)


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    from config import alerts_section as a
    from config import cron_triggers as c
    from config import datasets_section as d
    from config import flow_control as f
    from config import patterns as w
    from config import pipeline_options as p
    from config import pools_section as o
    from config import service_section as s
    from config import triggers_section as t

    yield "service", s.ServiceOptions
    yield "service.retention", s.RetentionOptions
    yield "service.limits", s.LimitsOptions
    yield "service.dispatch", s.DispatchOptions
    yield "service.network", s.NetworkOptions
    yield "telemetry", s.TelemetryOptions
    yield "telemetry.otlp", s.OtlpOptions
    yield "alerts.NAME", a.AlertOptions
    yield "alerts.NAME.match", a.MatchOptions
    yield "connections.NAME", s.ConnectionOptions
    yield "datasets.NAME", d.DatasetOptions
    yield "datasets.NAME.freshness", d.FreshnessOptions
    yield "triggers.NAME", t.TriggerOptions
    yield "triggers.NAME.on", w.SourceOptions
    yield "triggers.NAME.on (a time)", c.CronOptions
    yield "triggers.NAME.run", w.RunOptions
    yield "triggers.NAME.join", w.JoinOptions
    yield "triggers.NAME.join.of.NAME", w.PartOptions
    yield "triggers.NAME.join.opens", w.OpensOptions
    yield "triggers.NAME.sequence", w.SequenceOptions
    yield "triggers.NAME.count", w.CountOptions
    yield "triggers.NAME.absent", w.AbsentOptions
    yield "triggers.NAME.absent.after", w.AfterOptions
    yield "triggers.NAME.overdue", w.OverdueOptions
    yield "triggers.NAME.sample", f.SampleOptions
    yield "triggers.NAME.throttle", f.ThrottleOptions
    yield "triggers.NAME.active", f.ActiveOptions
    yield "triggers.NAME.active.windows", f.WindowOptions
    yield "triggers.NAME.batch", f.BatchOptions
    yield "triggers.NAME.debounce", f.DebounceOptions
    yield "pools.NAME", o.PoolOptions
    yield "pipelines.NAME", p.PipelineOptions
    yield "pipelines.NAME.params.NAME", p.ParamOptions
    yield "pipelines.NAME.deadlines", p.DeadlineOptions
    yield "pipelines.NAME.deadlines.finish_by", p.FinishOptions
    yield "pipelines.NAME.tasks.NAME", p.TaskOptions
    yield "pipelines.NAME.tasks.NAME.retries", p.RetriesOptions


def _options(model: type[BaseModel], title: str) -> Iterator[str]:
    rows = []
    for option in options_of(model):
        words = _words(title, option)
        if not words:
            raise Undocumented(f"{title}.{option['name']} has no description; write one in docs/option_words.py")
        rows.append((f"`{option['name']}`", option["type"], _default(option), words))
    yield from _table(("option", "type", "default", "meaning"), rows)


def _words(title: str, option: Mapping[str, Any]) -> str:
    return WORDS.get(f"{title}.{option['name']}") or option["help"] or COMMON.get(option["name"], "")


def _default(option: Mapping[str, Any]) -> str:
    if option["required"]:
        return "**required**"
    default = option["default"]
    if default is None or default in ([], {}) or isinstance(default, dict):
        return "–"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def cli_page() -> Iterator[str]:
    """Describe every command."""
    import typer.main

    from tidegate.cli.main import app

    yield "\n# Command line\n"
    yield SECTIONS["cli"]
    yield from _commands(typer.main.get_command(app), "tidegate")


def _commands(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children or command.callback is not None:
        yield f"\n## `{name}`\n"
        yield (command.help or "").strip()
        yield ""
        rows = []
        for param in command.params:
            if param.name == "help":
                continue
            shown = (
                " ".join((*param.opts, *param.secondary_opts))
                if param.param_type_name == "option"
                else param.name.upper()
            )
            rows.append((f"`{shown}`", (getattr(param, "help", None) or "").strip(), "yes" if param.required else ""))
        if rows:
            yield from _table(("argument", "meaning", "required"), rows)
    for child in sorted(children):
        yield from _commands(children[child], f"{name} {child}")


def http_page() -> Iterator[str]:
    """Describe every operation of the HTTP API."""
    from tidegate.api.app import create_app
    from tidegate.api.auth import Auth
    from tidegate.api.house import House

    house = cast("House", SimpleNamespace(version="0"))
    document = create_app(house, auth=cast("Auth", None)).openapi()
    yield "\n# HTTP API\n"
    yield SECTIONS["http"]
    rows: list[tuple[str, ...]] = []
    for path, item in (document["paths"] or {}).items():
        for method in ("get", "post", "put", "patch", "delete"):
            if method in item:
                operation = item[method]
                query = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
                answers = sorted(code for code in operation["responses"] if code != "default")
                rows.append((f"`{method.upper()} {path}`", operation["summary"], _code(query), ", ".join(answers)))
    yield from _table(("request", "does", "query", "answers"), rows)


def sensors_page() -> Iterator[str]:
    """Describe sensor kinds, what they emit, and verifiers."""
    from sensors.registry import load_registry
    from sensors.verify import VERIFIERS

    yield "\n# Sensors\n"
    yield SECTIONS["sensors"]
    for kind in load_registry([], installed=[]).values():
        yield f"\n## `kind: {kind.name}`\n"
        yield f"{kind.help[0].upper()}{kind.help[1:]}.\n"
        if kind.single:
            yield "Of several replicas, one reads it at a time.\n"
        yield from _kind_options(kind.options, f"sensors.{kind.name}")
        yield "\nEvents:\n"
        told = [(f"type `{name}`", when) for name, when in kind.emits.types.items()]
        told += [(name, getattr(kind.emits, name)) for name in ("subject", "time", "data", "attributes")]
        yield from _table(("attribute", "is"), told)
        yield f"\n```json\n{json.dumps(kind.emits.sample, indent=2, ensure_ascii=False)}\n```"
    yield "\n## Verifiers (`verify: {scheme: …}`)\n"
    yield SECTIONS["verifiers"]
    for verifier in VERIFIERS:
        yield f"\n### `scheme: {verifier.scheme}`\n"
        yield f"{verifier.help[0].upper()}{verifier.help[1:].rstrip('.')}. {_doc(verifier.options)}\n"
        yield from _kind_options(verifier.options, f"verify.{verifier.scheme}")


def engines_page() -> Iterator[str]:
    """Describe engines."""
    from pipelines.registry import load_registry

    yield "\n# Engines\n"
    yield SECTIONS["engines"]
    for engine in load_registry([], others=[]).values():
        yield f"\n## `engine: {engine.name}`\n"
        yield f"{engine.help}\n\n{_doc(engine.options)}\n"
        yield from _kind_options(engine.options, f"engines.{engine.name}")
        yield f"\n```yaml\n{engine.example}\n```" if engine.example else ""


def checks_page() -> Iterator[str]:
    """Describe checks."""
    from pipelines.checks.registry import KINDS
    from pipelines.checks.written import CheckEntry

    yield "\n# Checks\n"
    yield SECTIONS["checks"]
    rows = [
        (f"`{option['name']}`", option["type"], _default(option), option["help"])
        for option in options_of(CheckEntry)
        if option["name"] not in ("kind", "options")
    ]
    yield from _table(("beside the kind", "type", "default", "meaning"), rows)
    for kind in KINDS.values():
        yield f"\n## `{kind.name}`\n"
        yield f"{kind.help}\n"
        yield from _kind_options(kind.options, f"checks.{kind.name}")
        written = kind.example if ":" not in kind.example else f"{{{kind.example}}}"
        place = 'datasets: {daily: {uri: "duckdb://shop.duckdb/main.daily", checks: ['
        yield f"\n```yaml fragment\n{place}{written}]}}}}\n```"


def _kind_options(model: type[BaseModel], title: str) -> Iterator[str]:
    rows = [
        (
            f"`{option['name']}`",
            option["type"],
            _default(option),
            _words(title, option),
        )
        for option in options_of(model)
        if option["name"] not in ("kind", "scheme")
    ]
    for name, _, _, words in rows:
        if not words:
            raise Undocumented(f"{title}.{name} has no description; write one in docs/option_words.py")
    if rows:
        yield from _table(("option", "type", "default", "meaning"), rows)


def metrics_page() -> Iterator[str]:
    """Describe every metric."""
    from tidegate.telemetry.instruments import Instruments

    kept = _Recorder()
    instruments = Instruments(cast("Any", kept))
    instruments.active_runs(dict)
    instruments.backlog(lambda: (0, 0))
    instruments.alerts_undelivered(dict)
    instruments.lags(dict)
    instruments.process()
    yield "\n# Metrics\n"
    yield SECTIONS["metrics"]
    yield from _table(("metric", "kind", "unit", "labels", "meaning"), sorted(kept.rows))


class _Recorder:
    """Stands in for `tidegate.telemetry.metrics.Metrics` and notes what is made."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str, str]] = []

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        def make(name: str, help: str, unit: str, labels: Sequence[str] = (), *_: Any) -> Any:
            self.rows.append((f"`{name}`", kind.removeprefix("observed_"), unit, _code(labels), help))
            return SimpleNamespace(labels=lambda *_: None)

        return make


def _doc(model: type[BaseModel]) -> str:
    """Return a model's docstring as one paragraph each."""
    return inspect.cleandoc(model.__doc__ or "").replace("\n", " ").replace("  ", "\n\n")


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


def main() -> int:
    """Write the pages, or with `--check` say which are stale."""
    stale = [name for name, text in pages().items() if not (HERE / name).exists() or (HERE / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/reference/{name} is stale; run `python -m docs.generate`", file=sys.stderr)
        return 1 if stale else 0
    HERE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (HERE / name).write_text(text)
    print(f"wrote {', '.join(stale) or 'nothing new'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
