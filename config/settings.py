"""Settings of the process that are no configuration: which service the command line talks to, how logs look.

Read once by whoever starts the process. Plain variables and no settings library, because the serve path must start fast
and four names need no more; `tidegate kinds` and the docs list `DESCRIPTIONS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, cast

DESCRIPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TIDEGATE_URL": "the service that the command line talks to (default http://127.0.0.1:8080)",
        "TIDEGATE_TOKEN": "the token it shows there",
        "TIDEGATE_LOG_FORMAT": "`json` or `text`; default: text on a terminal, json elsewhere",
        "TIDEGATE_LOG_LEVEL": "`debug`, `info` (default), `warning` or `error`",
        "TIDEGATE_FAILPOINT": "for crash tests only: the named point at which the process kills itself",
    },
)
LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. `log_format` None: by whether standard error is a terminal."""

    url: str = "http://127.0.0.1:8080"
    token: str | None = field(default=None, repr=False)
    log_format: LogFormat | None = None
    log_level: LogLevel = "info"
    failpoint: str | None = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; an empty variable counts as not set. Raises ValueError with the remedy."""
    url = environ.get("TIDEGATE_URL") or Settings().url
    if not url.startswith(("http://", "https://")):
        raise ValueError("TIDEGATE_URL is no URL; write one such as http://127.0.0.1:8080")
    return Settings(
        url=url.rstrip("/"),
        token=environ.get("TIDEGATE_TOKEN") or None,
        log_format=cast("LogFormat | None", _choice(environ, "TIDEGATE_LOG_FORMAT", ("json", "text"), None)),
        log_level=cast(
            "LogLevel", _choice(environ, "TIDEGATE_LOG_LEVEL", ("debug", "info", "warning", "error"), "info")
        ),
        failpoint=environ.get("TIDEGATE_FAILPOINT") or None,
    )


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...], default: str | None) -> str | None:
    value = (environ.get(name) or "").lower()
    if not value:
        return default
    if value not in choices:
        raise ValueError(f"{name} is `{value}`; write {' or '.join(choices)}")
    return value
