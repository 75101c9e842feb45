"""Where telemetry goes: the configuration and the standard `OTEL_*` variables become one frozen value.

What the configuration names wins; the environment fills what it leaves open. `OTEL_SDK_DISABLED=true` switches
everything off whatever else is said, `OTEL_TRACES_EXPORTER=none` and `OTEL_METRICS_EXPORTER=none` one signal.
`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read by the SDK's `Resource`, whose rules apply.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from config.model import Telemetry


class TelemetryError(ValueError):
    """The telemetry settings cannot be used; the sentence names the variable or key and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """Full URLs per signal (None: not exported), headers per signal, and how to talk. Seconds."""

    traces_url: str | None = None
    metrics_url: str | None = None
    traces_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    metrics_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    gzip: bool = False
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    metrics_every: float = 60.0

    @property
    def enabled(self) -> bool:
        """Say whether anything is exported at all."""
        return self.traces_url is not None or self.metrics_url is not None


def export_settings(config: Telemetry, environ: Mapping[str, str]) -> ExportSettings:
    """Read configuration and environment. Raises TelemetryError for what is no endpoint, header list or number."""
    if _flag(environ, "OTEL_SDK_DISABLED"):
        return ExportSettings()
    return ExportSettings(
        traces_url=_url(config, environ, "TRACES"),
        metrics_url=_url(config, environ, "METRICS"),
        traces_headers=_headers(config, environ, "TRACES"),
        metrics_headers=_headers(config, environ, "METRICS"),
        timeout=_number(environ, "OTEL_EXPORTER_OTLP_TIMEOUT", 10.0),
        gzip=environ.get("OTEL_EXPORTER_OTLP_COMPRESSION", "").strip().lower() == "gzip",
        certificate=environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None,
        client_certificate=environ.get("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE") or None,
        client_key=environ.get("OTEL_EXPORTER_OTLP_CLIENT_KEY") or None,
        metrics_every=max(1.0, config.metrics_every),
    )


def _url(config: Telemetry, environ: Mapping[str, str], signal: str) -> str | None:
    """Return the signal's full URL: configured base, its own variable (taken as it is), the common base, or None."""
    if environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
        return None
    if config.endpoint:
        return _checked(config.endpoint, "telemetry.otlp.endpoint").rstrip("/") + f"/v1/{signal.lower()}"
    own = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    if environ.get(own):
        return _checked(environ[own], own)
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if base:
        return _checked(base, "OTEL_EXPORTER_OTLP_ENDPOINT").rstrip("/") + f"/v1/{signal.lower()}"
    return None


def _checked(url: str, where: str) -> str:
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise TelemetryError(f"{where} is {url!r}, which is no http(s) URL; write it like http://127.0.0.1:4318")
    return url.strip()


def _headers(config: Telemetry, environ: Mapping[str, str], signal: str) -> dict[str, str]:
    """Merge `k=v,k2=v2` of the environment (the signal's own list replaces the common one) with configured headers."""
    name = f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"
    text = environ.get(name)
    if not text:
        name = "OTEL_EXPORTER_OTLP_HEADERS"
        text = environ.get(name, "")
    headers: dict[str, str] = {}
    for pair in text.split(","):
        if not pair.strip():
            continue
        key, found, value = pair.partition("=")
        if not found or not key.strip():
            raise TelemetryError(f"{name} has an entry without `=`; write it like api-key=secret,tenant=a")
        headers[unquote(key).strip().lower()] = unquote(value).strip()
    headers.update({key.lower(): value for key, value in config.headers.items()})
    for key, value in headers.items():
        if any(character in key + value for character in "\r\n\0"):
            raise TelemetryError(f"the OTLP header {key!r} holds a line break; remove it")
    return headers


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 3600.0:
        raise TelemetryError(f"{name} is {text!r}; write seconds, like 10")
    return value


def _flag(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() == "true"
