"""Commands about the service and its configuration: serve, check, try, kinds, schema, migrate, health."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli.errors import PROBLEMS, UNREACHABLE, USAGE, fail
from tidegate.cli.options import Json, Url

Configs = Annotated[
    list[Path] | None,
    typer.Argument(help="Configuration files, one layer; default ./tidegate.yaml.", show_default=False),
]
Overlays = Annotated[
    list[Path] | None, typer.Option("--overlay", help="A layer on top; later ones win.", show_default=False)
]


def register(root: typer.Typer) -> None:
    """Add the commands to the root."""
    for command in (serve, check, kinds, schema, migrate, health):
        root.command(command.__name__)(command)
    root.command("try")(try_event)


def serve(config: Configs = None, overlay: Overlays = None) -> None:
    """Run the service until it is stopped."""
    from tidegate.cli.loading import config_paths

    paths = config_paths(config)
    from tidegate.serve import serve as run

    raise typer.Exit(run(paths, overlay or []))


def check(
    config: Annotated[list[Path], typer.Argument(help="Configuration files, one layer.", show_default=False)],
    overlay: Overlays = None,
    json: Json = False,
) -> None:
    """Find every problem of a configuration at once. Starts nothing, needs no secret; exit code 1 when there is one."""
    from config.check import check as find

    problems = find(config, overlay or [], environ=os.environ)
    if json:
        from dataclasses import asdict

        from tidegate.cli import out

        out.as_json({"problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            _print_problem(problem)
        if not problems:
            print(f"{', '.join(str(path) for path in config)}: no problem found")
        else:
            print(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}", file=sys.stderr)
    if problems:
        raise typer.Exit(PROBLEMS)


def _print_problem(problem: Any) -> None:
    """Print `file:line:column path: what is wrong, what would be right`, coloured on a terminal, one line always."""
    from tidegate.cli import out

    console = out.console()
    if not console.is_terminal:
        print(problem)
        return
    from rich.text import Text

    where = f"{problem.file}:{problem.line}:{problem.column}"
    path = f" {problem.path}" if problem.path else ""
    remedy = f", {problem.remedy}" if problem.remedy else ""
    console.print(
        Text.assemble((out.clean(where), "bold"), (path, "cyan"), ": ", (problem.message, "red"), (remedy, "green")),
        soft_wrap=True,
    )


def try_event(
    config: Annotated[list[Path], typer.Argument(help="Configuration files, one layer.", show_default=False)],
    sensor: Annotated[
        str | None,
        typer.Option(help="The sensor that the events would come from, if they do not say so.", show_default=False),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="A file, or SENSOR=FILE: an event as `events show --json` prints it, a list of such or one per line"
            " (each may say `at` and `sensor`), or only content; - is standard input. May be repeated.",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="The sample event of the sensor's kind.")] = False,
    now: Annotated[
        str | None, typer.Option(help="When the first event comes: 2026-01-31T06:00Z.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Let time pass afterwards, up to a moment, or +6h.", show_default=False)
    ] = None,
    overlay: Overlays = None,
    json: Json = False,
) -> None:
    """Tell what each trigger would decide about sample events. Starts nothing; exit code 1 when a rule fails on one."""
    from config.load import load_config
    from config.problems import ConfigProblems

    try:
        loaded = load_config(config, overlay or [], environ=os.environ, resolve_secrets=False)
    except ConfigProblems as found:
        for problem in found.problems:
            _print_problem(problem)
        raise typer.Exit(PROBLEMS) from None
    from tidegate.cli.trying import gather, judge, show_judgement

    events = gather(loaded, event or [], sensor, sample=sample, now=now)
    if show_judgement(judge(loaded, events, until), json=json):
        raise typer.Exit(PROBLEMS)


def kinds(
    name: Annotated[str | None, typer.Argument(help="One kind, in full.", show_default=False)] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A plug-in file to load as well.", show_default=False)
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Only the sample event of a sensor kind, as `try --event` takes it.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what can be configured: sensors, engines, checks, verifiers; their options and the events they emit."""
    from tidegate.cli.kinds_view import gather, show_all, show_one

    found = gather(plugin or [])
    if name is None:
        if sample:
            fail("--sample goes with one kind: tidegate kinds webhook --sample", USAGE)
        show_all(found, json=json)
        return
    named = [item for item in found if item["name"] == name]
    if not named:
        from config.problems import known_names

        fail(f"there is no kind {name}; {known_names(name, [item['name'] for item in found])}", USAGE)
    if sample:
        samples = [item["emits"]["sample"] for item in named if "emits" in item]
        if not samples:
            fail(f"{name} is no sensor kind, so it emits nothing", USAGE)
        from tidegate.cli import out

        out.as_json(samples[0])
        return
    show_one(named, json=json)


def schema(
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A plug-in file to load as well.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from config.schema import json_schema
    from pipelines.registry import load_registry as load_engines
    from sensors.registry import load_registry as load_sensors
    from tidegate.cli import out

    out.as_json(json_schema(load_sensors(plugin or []), load_engines(plugin or []).values()))


def migrate(
    config: Configs = None,
    store: Annotated[
        str | None, typer.Option(help="The store's URL, instead of a configuration.", show_default=False)
    ] = None,
) -> None:
    """Bring the store's schema to this version. Safe beside running services of this version and the one before."""
    from tidegate.cli.loading import store_url
    from tidegate.store.factory import migrate as bring
    from tidegate.store.tx import StoreError

    try:
        print(f"the store's schema is version {bring(store or store_url(config))}")
    except StoreError as error:
        fail(str(error))


def health(
    url: Url = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
) -> None:
    """Ask /healthz: exit code 0 when the process answers, 1 when it is unwell, 3 when nothing answers."""
    from tidegate.cli.client import connect

    status, _ = connect(url).probe("/healthz", timeout)
    if status != 200:
        fail(f"/healthz answered {status}", PROBLEMS if status < 500 else UNREACHABLE)
    print("ok")
