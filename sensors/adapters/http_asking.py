"""One request and its answer as values, and the template that requests are made from.

In flow the options and the scope of one poll (`cursor`, `now`), out flows an `Ask`: complete but for who asks. Nothing
here is ever shown: URLs in sentences come from `shown_url`, which leaves query and password out.
"""

import json as encoder
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from sensors.kind import SensorContext

_OPEN: Final = "${{"
_SAFE: Final = "/%:=@!$&'()*+,;~-._"


class BadRequest(ValueError):
    """A request cannot be made of what the options say; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `query` comes behind the URL's own; `json` goes before `text`; header names are as written."""

    method: str
    url: str = field(repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Return the whole URL, as it is sent."""
        parts = urlsplit(self.url)
        own = parts.query
        more = urlencode(self.query)
        return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "&".join(p for p in (own, more) if p), ""))

    @property
    def payload(self) -> bytes | None:
        """Return the body, None for none."""
        if self.json is not None:
            return orjson.dumps(self.json)
        return None if self.text is None else self.text.encode()

    def with_header(self, name: str, value: str) -> "Ask":
        """Return it with a header set, whatever case it was written in before."""
        kept = {known: text for known, text in self.headers.items() if known.lower() != name.lower()}
        return replace(self, headers={**kept, name: value})

    def with_param(self, name: str, value: str | int, into: str = "query") -> "Ask":
        """Return it with a parameter set: in the query, or below a dotted name of the JSON body."""
        if into == "json":
            return replace(self, json=_put(self.json, name.split("."), value))
        parts = urlsplit(self.url)
        own = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != name]
        url = self.url
        if len(own) != len(parse_qsl(parts.query, keep_blank_values=True)):
            url = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(own), ""))
        rest = tuple(pair for pair in self.query if pair[0] != name)
        return replace(self, url=url, query=(*rest, (name, str(value))))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are lower case, repeated ones joined; `url` is where the answer came from."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray = b""
    url: str = ""


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises ValueError for what is no URL of HTTP."""
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no URL of HTTP")
    return parts.scheme.lower(), parts.hostname.lower(), parts.port or (443 if parts.scheme.lower() == "https" else 80)


def host_of(url: str) -> str:
    """Return `name:port`: what limits of a host are kept by."""
    _, host, port = origin_of(url)
    return f"{host}:{port}"


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without query, fragment and user."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    path = "".join(char if char.isprintable() and char != " " else "�" for char in parts.path[:200])
    return f"{parts.scheme}://{host}{port}{path}"


class Asking:
    """The template of a sensor's requests."""

    def __init__(self, method: str, parts: Mapping[str, Any], context: SensorContext) -> None:
        """`parts` are url, query, headers, json and body as written. Raises ValueError."""
        self._method = method
        self._origin = origin_of(str(parts["url"]).partition(_OPEN)[0])
        self._render: Callable[[Mapping[str, Any]], Any]
        if not any(_OPEN in text for text in _texts(parts)):
            self._render = lambda _: parts
        elif context.template is None:
            raise ValueError("`${{ … }}` cannot be evaluated here; write the values themselves")
        else:
            self._render = context.template(dict(parts), ("cursor", "now"))

    def ask(self, high: Any, now: int) -> Ask:
        """Return the request of a poll; `now` in UTC micros. Raises BadRequest."""
        moment = datetime.fromtimestamp(now / 1e6, UTC)
        try:
            made = self._render({"cursor": {"high": high}, "now": moment})
        except Exception as error:
            raise BadRequest(f"the request cannot be made: {error}") from error
        url = quote(str(made["url"]), safe=_SAFE + "?#[]")
        if origin_of(url) != self._origin:
            raise BadRequest("`url` leads to another host once its ${{ … }} is evaluated; write the host out")
        query = [pair for name, value in (made["query"] or {}).items() for pair in _pairs(str(name), value)]
        headers = {
            str(name): _header(str(name), value) for name, value in (made["headers"] or {}).items() if value is not None
        }
        body = made["body"]
        text = body if body is None or isinstance(body, str) else encoder.dumps(body)
        ask = Ask(self._method, url.partition("#")[0], tuple(query), headers, made["json"], text)
        given = {name.lower() for name in headers}
        if ask.json is not None and "content-type" not in given:
            ask = ask.with_header("Content-Type", "application/json")
        return ask if "accept" in given else ask.with_header("Accept", "application/json, */*;q=0.5")


def _pairs(name: str, value: Any) -> Sequence[tuple[str, str]]:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in _pairs(name, item)]
    if isinstance(value, Mapping):
        raise BadRequest(f"the query parameter `{name}` is a map; write a text or a number")
    return ((name, _text(value)),)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return str(value)


def _header(name: str, value: Any) -> str:
    text = _text(value)
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in text):
        raise BadRequest(f"the header `{name}` holds a control character")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise BadRequest(f"the header `{name}` holds characters that no header can; encode them") from None
    return text


def _put(value: Any, path: Sequence[str], leaf: Any) -> Any:
    inside = dict(value) if isinstance(value, Mapping) else {}
    inside[path[0]] = leaf if len(path) == 1 else _put(inside.get(path[0]), path[1:], leaf)
    return inside


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for item in inside for text in _texts(item)]
