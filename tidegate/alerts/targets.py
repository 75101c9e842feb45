"""Where messages go: one target per URL of a route. URLs hold secrets: what anybody sees of them is `shown`.

`http://` and `https://` get our JSON body; every other scheme goes through apprise, which is imported only then. A
target never raises: it answers whether the message was taken, and if not, why, without secrets.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from tidegate.alerts.alert import readable
from tidegate.telemetry.redaction import MASK, Redactor

# Schemes of apprise whose host is the name of a machine. The others keep tokens there.
_HOSTED = frozenset(("http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"))
_URLS = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"<>]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: `error` says why the message was not taken, `wait` how long the target wants to rest."""

    ok: bool
    error: str = ""
    wait: float = 0.0


class Target(Protocol):
    """One URL of a route."""

    shown: str

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Send a message once, within half a minute. Never raises but when cancelled."""
        ...

    async def close(self) -> None:
        """Let go of what was opened."""
        ...


def shown(url: str) -> str:
    """Return what may be seen of a target's URL: the scheme, and the machine where the scheme names one."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _HOSTED or not rest:
        return f"{scheme[:30]}://{MASK}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{scheme}://{MASK}"
    if not host:
        return f"{scheme}://{MASK}"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + (f":{port}" if port is not None else "")


class Discretion:
    """Takes what is secret in one URL out of sentences."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        secrets = [rest, unquote(rest)]
        machine = ""
        try:
            parts = urlsplit(url)
            secrets += [parts.password or "", parts.username or "", *parts.path.split("/"), parts.query]
            secrets += [value for _, value in parse_qsl(parts.query)]
            if scheme.lower() in _HOSTED:
                machine = parts.hostname or ""
            else:
                secrets += [parts.netloc, *re.split(r"[@:]", parts.netloc)]
        except ValueError:
            pass
        wanted = {part for secret in secrets for part in (secret, unquote(secret))}
        self._redactor = Redactor(part for part in wanted if part.lower() != machine.lower())

    def sentence(self, text: str) -> str:
        """Return a sentence fit to be kept and shown: no URL but its machine, no secret, one line."""
        return readable(self._redactor.mask(_URLS.sub(lambda found: shown(found[0]), text)), 300)


def make_target(url: str, agent: str) -> Target:
    """Make the target of a URL; connects nowhere."""
    if urlsplit(url).scheme.lower() in ("http", "https"):
        from tidegate.alerts.http_target import HttpTarget

        return HttpTarget(url, agent)
    from tidegate.alerts.apprise_target import AppriseTarget

    return AppriseTarget(url)
