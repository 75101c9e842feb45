"""`tidegate triggers backtest`: changed rules, tried on stored events, by the running service or offline."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.client import connect
from tidegate.cli.errors import PROBLEMS, USAGE, fail
from tidegate.cli.options import Json, Since, Until, Url, moment

if TYPE_CHECKING:
    from config.model import ServiceConfig
    from tidegate.backtest.values import Report

_PATIENCE = 60.0  # seconds beyond those that the back-test itself may take

Name = Annotated[str | None, typer.Argument(help="A trigger; --all for all that differ.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All triggers that differ (with --recorded: all).")]
New = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        help="The changed configuration, one layer; its triggers are tried. Without it: the rules in force, against the"
        " record.",
        show_default=False,
    ),
]
Recorded = Annotated[
    bool, typer.Option("--recorded", help="Compare with what fired then, instead of the rules in force.")
]
Sensors = Annotated[
    list[str] | None, typer.Option("--sensor", help="Only events of this sensor; may be repeated.", show_default=False)
]
Events = Annotated[int, typer.Option("--limit", "-n", min=1, max=5_000_000, help="Events at most.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1.0, max=600.0, help="It ends after so long.")]
Samples = Annotated[int, typer.Option("--samples", min=0, max=100, help="Samples of each kind, per trigger.")]
Source = Annotated[
    bool,
    typer.Option("--from-source", help="Read the sources' own history instead of stored events; nothing moves there."),
]
Offline = Annotated[
    list[Path] | None,
    typer.Option(
        "--offline",
        help="Without a service: this configuration is in force, and its store is read.",
        show_default=False,
    ),
]
Store = Annotated[
    str | None, typer.Option("--store", help="With --offline: another store, such as a copy.", show_default=False)
]
Strict = Annotated[bool, typer.Option("--exit-code", help="Exit code 1 when anything differs.")]


def backtest(  # noqa: PLR0913, PLR0917 - the options of a command are its parameters
    name: Name = None,
    everything: All = False,
    config: New = None,
    since: Since = None,
    until: Until = None,
    recorded: Recorded = False,
    sensor: Sensors = None,
    limit: Events = 1_000_000,
    seconds: Seconds = 120.0,
    samples: Samples = 5,
    from_source: Source = False,
    offline: Offline = None,
    store: Store = None,
    exit_code: Strict = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Say what changed rules would have done with stored events: a diff. Starts nothing, writes nothing."""
    if (name is None) != everything:
        fail("name one trigger, or say --all", USAGE)
    if store is not None and not offline:
        fail("--store goes with --offline CONFIG; the service reads its own", USAGE)
    if from_source and offline:
        fail("--from-source asks the running service, which has the sensors; leave out --offline", USAGE)
    ask: dict[str, Any] = {
        "triggers": [] if name is None else [name],
        "baseline": "recorded" if recorded else None,
        "since": moment(since, "--since"),
        "until": moment(until, "--until"),
        "sensors": sensor or [],
        "limit": limit,
        "seconds": seconds,
        "samples": samples,
    }
    if offline:
        found = _offline(offline, store, config, ask)
    else:
        files = [{"name": str(path), "text": _text(path)} for path in config or []] or None
        body = {**ask, "config": files, "from_source": from_source}
        found = connect(url).post("backtests", body=body, patience=seconds + _PATIENCE)
    from tidegate.cli import backtest_view, out

    if json:
        out.as_json(found)
    else:
        backtest_view.show(found)
    if exit_code and found["differs"]:
        raise typer.Exit(PROBLEMS)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}", USAGE)


def _offline(in_force: list[Path], store: str | None, new: list[Path] | None, ask: dict[str, Any]) -> dict[str, Any]:
    """Run it here, over the store of a configuration."""
    from tidegate.backtest.view import report_view
    from tidegate.store.tx import StoreError

    old = _loaded(in_force, resolve_secrets=store is None)
    changed = None if not new else _loaded(new, resolve_secrets=False).triggers
    try:
        return report_view(_run(old, changed, store or old.store, ask))
    except StoreError as error:
        fail(str(error))


def _run(old: "ServiceConfig", changed: Any, store: str, ask: dict[str, Any]) -> "Report":
    import time

    from tidegate.backtest.asking import BadAsk, Wish, make_ask
    from tidegate.backtest.drive import backtest as run
    from tidegate.backtest.history import StoreHistory
    from tidegate.backtest.reading import reading

    wish = Wish(
        names=ask["triggers"],
        since=_micros(ask["since"]),
        until=_micros(ask["until"]),
        baseline=ask["baseline"],
        sensors=ask["sensors"],
        limit=ask["limit"],
        seconds=ask["seconds"],
        samples=ask["samples"],
    )
    try:
        question = make_ask(old.triggers, changed, wish, time.time_ns() // 1000)
    except BadAsk as error:
        fail(str(error), USAGE)
    with reading(store) as read:
        return run(question, StoreHistory(read))


def _micros(text: str | None) -> int | None:
    from tidegate.wording import parse_moment

    return None if text is None else parse_moment(text)


def _loaded(paths: list[Path], *, resolve_secrets: bool) -> "ServiceConfig":
    from config.load import load_config
    from config.problems import ConfigProblems

    try:
        return load_config(paths, environ=os.environ, resolve_secrets=resolve_secrets)
    except ConfigProblems as found:
        fail("the configuration has problems:\n" + "\n".join(str(problem) for problem in found.problems), PROBLEMS)
