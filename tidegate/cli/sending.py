"""`tidegate sensors send`: a sample, signed and posted to a webhook as its provider would do it.

In flow a configuration with its secrets and a file; out flows what the endpoint answered. Nothing of the service is
needed but its public address, so that what is tried is the whole way a sender takes.
"""

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from tidegate.cli.errors import PROBLEMS, UNREACHABLE, USAGE, fail

if TYPE_CHECKING:
    from config.model import SensorEntry, ServiceConfig

_TIMEOUT = 330.0  # seconds; longer than the longest ?wait=
_TYPES = {".json": "application/json", ".xml": "text/xml", ".csv": "text/csv", ".txt": "text/plain"}


@dataclass(frozen=True)
class Sample:
    """What is sent besides the body. `headers` go before those of the signature, which always win."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    params: Mapping[str, str]


def type_of(path: Path, body: bytes, scheme: str) -> str:
    """Guess the content type of a file: by its name, by the provider, or by what is in it."""
    import json

    known = _TYPES.get(path.suffix.lower())
    if known is not None:
        return known
    if scheme == "twilio":
        return "application/x-www-form-urlencoded"
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "application/octet-stream"
    return "application/json"


def send(config: "ServiceConfig", name: str, sample: Sample, url: str | None) -> tuple[int, Mapping[str, str], bytes]:
    """Sign and post a sample; return status, headers and body of the answer. Ends the command when it cannot."""
    entry = _webhook(config, name)
    path = _path(entry, sample.params)
    headers = {"content-type": sample.content_type, "user-agent": "tidegate-send", **sample.headers}
    query = urlencode(sample.query)
    headers.update(_signed(entry.options, sample, path, query))
    return _post(url or f"http://{_reachable(config.listen)}", f"{path}?{query}" if query else path, headers, sample)


def _webhook(config: "ServiceConfig", name: str) -> "SensorEntry":
    from config.problems import known_names

    webhooks = [other for other, entry in config.sensors.items() if hasattr(entry.options, "verify")]
    if name not in webhooks:
        fail(f"there is no webhook {name}; {known_names(name, webhooks)}", USAGE)
    return config.sensors[name]


def _path(entry: "SensorEntry", params: Mapping[str, str]) -> str:
    """Return the path with its `{name}`s filled in; the secret comes from the configuration."""
    options: Any = entry.options
    given = dict(params)
    if options.path_secrets:
        given.setdefault("secret", options.path_secrets[0])
    missing = [name for name in options.parameters if name not in given]
    if missing:
        fail(f"the path {options.path} needs -p {missing[0]}=…", USAGE)
    path: str = options.path
    for name in options.parameters:
        path = path.replace(f"{{{name}}}", quote(given[name], safe=""))
    return path


def _signed(options: Any, sample: Sample, path: str, query: str) -> Mapping[str, str]:
    from sensors.uid import EVENT, new_uid
    from sensors.verifiers.model import Draft
    from sensors.verify import verifier_of

    verifier = verifier_of(options.verify)
    if verifier.sign is None:
        fail(f"{verifier.scheme} proves with what this configuration does not hold; send it from where that is", USAGE)
    now = time.time_ns() // 1000
    draft = Draft(sample.body, path, query, sample.content_type, now, new_uid(EVENT, now).replace("evt_", "sample-"))
    try:
        return {**verifier.sign(draft, verifier.keys(options.verify), options.verify)}
    except ValueError as error:
        fail(str(error), USAGE)


def _reachable(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]", "") else listen  # noqa: S104 - an address to replace


def _post(url: str, target: str, headers: Mapping[str, str], sample: Sample) -> tuple[int, Mapping[str, str], bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fail(f"{url} is no URL; write one such as http://127.0.0.1:8080", USAGE)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
    try:
        connection.request("POST", parts.path.rstrip("/") + target, sample.body, dict(headers))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    except (OSError, http.client.HTTPException) as error:
        fail(f"cannot reach {url}: {str(error) or type(error).__name__}; start the service, or say --url", UNREACHABLE)
    finally:
        connection.close()


def exit_code(status: int) -> int:
    """Return the exit code for an answer: 0 when it was taken, 1 when it was refused, 3 for the service's own fault."""
    if 200 <= status < 300:
        return 0
    return UNREACHABLE if status >= 500 else PROBLEMS
