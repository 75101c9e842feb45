"""`tidegate`: the command line. A bare noun lists; verbs follow their noun.

Only what a command needs is imported when it runs, so that `--help` and completion answer at once.
"""

import typer

from tidegate.cli import (
    alerts,
    checks,
    datasets,
    dead_letters,
    events,
    lineage,
    pipelines,
    runs,
    sensors,
    service,
    tokens,
    triggers,
)

app = typer.Typer(
    name="tidegate",
    help="The event-driven front door of a data platform.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: loading rich for it would double the time to the first answer
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
service.register(app)
app.add_typer(sensors.app, name="sensors")
app.add_typer(triggers.app, name="triggers")
app.add_typer(events.app, name="events")
events.register(app)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(pipelines.app, name="pipelines")
app.add_typer(runs.app, name="runs")
app.add_typer(alerts.app, name="alerts")
lineage.register(app)
app.add_typer(datasets.app, name="datasets")
checks.register(app)
app.add_typer(tokens.app, name="tokens")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:
        raise SystemExit(0) from None
