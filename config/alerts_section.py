"""The section `alerts`: who is told of what, and how often.

In flow the entries as written, out flow `AlertRoute`s. Names that do not exist, targets that nothing could reach and
secrets that are written out are reported here, so that an alert is not the first one to find out.
"""

import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field

from config.model import AlertRoute
from config.problems import Path, known_names
from config.reading import PLACEHOLDER, Reading
from config.service_section import NAME, SECRET_KEY, Options
from config.yaml import Items, Node, Scalar
from pipelines.references import has_reference
from sensors.units import Duration, parse_duration

AlertEvent = Literal[
    "run_failed",
    "run_late",
    "check_failed",
    "sensor_unhealthy",
    "dataset_stale",
    "probe_failed",
    "dead_letter",
    "event_refused",
    "join_overdue",
    "set_overdue",
    "trigger_error",
    "schedule_missed",
    "config_refused",
    "alert_undelivered",
    "resolved",
]
Severity = Literal["info", "warning", "error"]
LIMIT_HELP: Final = "messages in a time, such as 20/10m"
LIMIT: Final = "20/10m"
_ROUTE: Final = AlertRoute(name="", to=(), events=frozenset())
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_LIMIT: Final = re.compile(r"(\d{1,6})/(\d*(?:ms|s|m|h|d))")
_GLOB: Final = frozenset("*?[")
_NAMED: Final = {"pipeline": "pipelines", "sensor": "sensors", "trigger": "triggers"}
_PASSWORD: Final = re.compile(r"^[a-z0-9+.-]+://[^/@:]*:([^@/]+)@", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\$\{(?:env|file):[^{}]*\}")


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _target(value: str) -> str:
    if value != PLACEHOLDER and _URL.fullmatch(value) is None:
        raise ValueError("this is no URL; write one such as https://hooks.example.com/alerts or mailto://…")
    return value


def _limit(value: Any) -> Any:
    found = _LIMIT.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected {LIMIT_HELP}")
    per = found[2] if found[2][0].isdigit() else f"1{found[2]}"
    pair = (int(found[1]), parse_duration(per))
    if pair[0] < 1 or pair[1] <= 0:
        raise ValueError(f"expected {LIMIT_HELP}")
    return pair


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | tuple[str, ...])]
Target = Annotated[str, BeforeValidator(lambda value: _target(value) if isinstance(value, str) else value)]
Targets = Annotated[
    tuple[Target, ...],
    BeforeValidator(_one_or_many, json_schema_input_type=str | tuple[str, ...]),
    Field(min_length=1),
]
Limit = Annotated[tuple[int, float], BeforeValidator(_limit, json_schema_input_type=str)]


class MatchOptions(Options):
    """What an alert must be about; all that is said must hold. Names and tags may hold `*` and `?`; a list: any of."""

    severity: Severity = Field(default="info", description="at least this severe: `info`, `warning` or `error`")
    tag: Texts = Field(default=(), description="a tag of the sensor, trigger, pipeline or dataset")
    pipeline: Texts = Field(default=(), description="the pipeline's name")
    sensor: Texts = Field(default=(), description="the sensor's name")
    trigger: Texts = Field(default=(), description="the trigger's name")
    dataset: Texts = Field(default=(), description="the dataset's name")


class AlertOptions(Options):
    """One entry of `alerts`: whom to tell, of what, and how often."""

    to: Targets = Field(description="a URL of whom to tell, such as ${env:ALERT_URL}, or a list of such")
    events: tuple[AlertEvent, ...] = Field(min_length=1, description="a list of what to tell, such as [run_failed]")
    match: MatchOptions = MatchOptions()
    group_wait: Annotated[Duration, Field(gt=0)] = Field(
        default=_ROUTE.group_wait, description="how long what follows a first message is gathered"
    )
    repeat_every: Annotated[Duration, Field(gt=0)] = Field(
        default=_ROUTE.repeat_every, description="how long it is quiet about what goes on and was told"
    )
    limit: Limit = Field(
        default=LIMIT,
        validate_default=True,
        description=f"{LIMIT_HELP}; what would be more is told together in one message",
    )
    retry_for: Annotated[Duration, Field(gt=0)] = Field(
        default=_ROUTE.retry_for, description="how long a message that cannot be delivered is tried again"
    )


def read_alerts(reading: Reading) -> dict[str, AlertRoute]:
    """Read the section `alerts`."""
    routes: dict[str, AlertRoute] = {}
    for name, node in reading.table(("alerts",)).items():
        path: Path = ("alerts", name)
        if re.fullmatch(NAME, name) is None:
            reading.problem(path, f"`{name}` is no name", "use letters, digits, `-` and `_`", key=True)
        for place, leaf in _targets(reading, path):
            _refuse_secrets(reading, leaf, place)
        options = reading.validate(AlertOptions, path, node)
        if options is not None:
            _check_targets(reading, path, options.to)
            _check_names(reading, path, options.match)
            routes[name] = _route(name, options)
    return routes


def _route(name: str, options: AlertOptions) -> AlertRoute:
    match = options.match
    wanted = {label: getattr(match, label) for label in ("tag", *_NAMED, "dataset") if getattr(match, label)}
    return AlertRoute(
        name=name,
        to=options.to,
        events=frozenset(options.events),
        severity=match.severity,
        match=wanted,
        group_wait=options.group_wait,
        repeat_every=max(options.group_wait, options.repeat_every),
        limit=options.limit[0],
        limit_per=options.limit[1],
        retry_for=options.retry_for,
    )


def _targets(reading: Reading, path: Path) -> Iterable[tuple[Path, Scalar]]:
    """Return the targets as they are written, with their places."""
    node: Node | None = reading.node((*path, "to"))
    if isinstance(node, Scalar):
        yield (*path, "to"), node
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar):
                yield (*path, "to", index), item


def _refuse_secrets(reading: Reading, leaf: Scalar, path: Path) -> None:
    """Report a password, or a parameter whose name says that it is secret, that is written out."""
    if not isinstance(leaf.value, str):
        return
    text = _REFERENCE.sub("@", leaf.value)
    clear = _PASSWORD.match(text) is not None
    for key, value in parse_qsl(text.partition("?")[2]):
        clear |= (SECRET_KEY.search(key) is not None or key in ("pass", "pw")) and value != "@"
    if clear:
        reading.problem(path, "a secret is written out", "name where it comes from: `${env:ALERT_URL}` (and change it)")
    elif leaf.value.startswith(("env:", "file:")) and not has_reference(leaf.value):
        reading.problem(path, f"`{leaf.text[:60]}` would stand for itself here", f"write `${{{leaf.text[:60]}}}`")


def _check_targets(reading: Reading, path: Path, targets: Iterable[str]) -> None:
    """Report targets that need what is not installed."""
    for url in targets:
        scheme = urlsplit(url).scheme.lower()
        if scheme not in ("", "http", "https") and find_spec("apprise") is None:
            reading.problem(
                (*path, "to"),
                f"`{scheme}://` needs the package apprise, which is not installed",
                "install `tidegate[alerts]`",
            )


def _check_names(reading: Reading, path: Path, match: MatchOptions) -> None:
    """Report names that nothing has; patterns may match what is still to come."""
    for label, section in _NAMED.items():
        known = reading.table((section,))
        for name in getattr(match, label):
            if name not in known and not _GLOB & set(name):
                where = (*path, "match", label)
                reading.problem(where, f"there is no {label} `{name}`", known_names(name, known))


KINDS: Final = frozenset(get_args(AlertEvent)) - {"resolved"}
