"""Requests of senders, good ones and changed ones, for a service with an endpoint for each scheme.

In flows a seed, out flow bytes. Each change says whether it leaves the request framed as HTTP: one that does not may
cost its connection, and no more. Nothing here knows what the answer should be, but that it is never a fault of ours.
"""

import base64
import gzip
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensors.sensor import Request
from tests.support import senders

SECRET = "secret-of-the-campaign-of-webhooks"
_WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()
Pairs = list[tuple[bytes, bytes]]


def configuration() -> Mapping[str, Any]:
    """Return the sensors, an endpoint for each scheme and form, and rules that look into what comes."""
    secret = "env:HOOKS_SECRET"

    def hook(path: str, verify: Any, **more: Any) -> Mapping[str, Any]:
        return {"kind": "webhook", "path": path, "verify": verify, **more}

    def scheme(name: str, **more: Any) -> Mapping[str, Any]:
        return {"scheme": name, "secret": secret, **more}

    return {
        "sensors": {
            "none": hook("/hooks/none", "none", encodings=["gzip", "deflate", "zstd"], max_decoded="64KiB"),
            "batch": hook("/hooks/batch", "none", cloudevents={"batch": True, "origins": ["*"]}),
            "grid": hook("/hooks/grid", scheme("bearer"), format="event-grid", id="body.id"),
            "path": hook("/hooks/{tenant}/in/{secret}", "none", path_secret=secret, subject="match.tenant"),
            "site": hook("/hooks/site", scheme("api-key"), cors={"origins": ["https://a.example.com"]}),
            "basic": hook("/hooks/basic", scheme("basic", username="u"), answer={"value": "body"}),
            "github": hook("/hooks/github", scheme("github")),
            "gitlab": hook("/hooks/gitlab", scheme("gitlab")),
            "standard": hook("/hooks/standard", {"scheme": "standard-webhooks", "secret": "env:HOOKS_WHSEC"}),
            "stripe": hook("/hooks/stripe", scheme("stripe"), dedup={"body": "10m"}),
            "slack": hook("/hooks/slack", scheme("slack")),
            "shopify": hook("/hooks/shopify", scheme("shopify")),
            "twilio": hook("/hooks/twilio", scheme("twilio", url="https://hooks.example.com")),
            "jwt": hook("/hooks/jwt", scheme("jwt", issuer="i", audience="tidegate", algorithms=["HS256"])),
            "sns": hook("/hooks/sns", {"scheme": "sns", "topics": [senders.TOPIC]}),
        },
        "triggers": {
            "looks": {
                "on": {"sensor": "none", "filter": {"exact": {"data.customer": "nobody"}}},
                "when": "event.data.n > 5",
                "run": {"pipeline": "p"},
            }
        },
        "pipelines": {"p": {"engine": "command", "argv": ["true"]}},
    }


ENVIRON = {"HOOKS_SECRET": SECRET, "HOOKS_WHSEC": _WHSEC}


@dataclass(frozen=True, slots=True)
class Mutant:
    """Bytes to send. `framed`: still HTTP; `hang_up`: the sender goes away before it is answered."""

    data: bytes
    framed: bool = True
    hang_up: bool = False


class Senders:
    """Makes requests from one seed: the same ones every time, but for the clock."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._n = 0

    def next(self) -> Mutant:
        """Return the next request; about one in four is good."""
        pick = self._random
        line, headers, body = self._good()
        kind = pick.random()
        if kind < 0.25:
            return Mutant(_written(line, headers, body))
        if kind < 0.27:
            data = _written(line, headers, body)
            return Mutant(self._bent(data), framed=False)
        if kind < 0.28:
            data = _written(line, headers, body)
            return Mutant(data[: pick.randrange(1, len(data))], hang_up=True)
        for _ in range(pick.randrange(1, 4)):
            change = pick.choice(_CHANGES)
            line, headers, body = change(pick, line, headers, body)
        if pick.random() < 0.05 and body:
            return Mutant(_chunked(line, headers, body, pick))
        return Mutant(_written(line, headers, body))

    def _good(self) -> tuple[bytes, Pairs, bytes]:
        self._n += 1
        now = int(time.time())
        body = self._body()
        make = self._random.choice(_GOOD)
        request = make(body, now, self._n)
        path = request.raw_path or request.path
        target = path + (f"?{request.query}" if request.query else "")
        headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, values in request.headers.items()
            for value in values
        ]
        return f"{request.method} {target} HTTP/1.1".encode(), [(b"host", b"127.0.0.1"), *headers], request.body

    def _body(self) -> bytes:
        pick = self._random
        document: Any = {
            "id": f"o-{self._n}",
            "n": self._n,
            "customer": pick.choice(["acme", "nobody", "\ud83d\ude00"]),
        }
        if pick.random() < 0.1:
            for _ in range(pick.choice([3, 100, 200])):
                document = {"in": document}
        if pick.random() < 0.1:
            document["text"] = pick.choice(["\0", "\ud800", "x" * 5000, [[]] * 50, 1e308, 2**70, None])
        return json.dumps(document).encode()

    def _bent(self, data: bytes) -> bytes:
        """Break the framing: flip, cut out, or insert bytes anywhere."""
        pick = self._random
        made = bytearray(data)
        for _ in range(pick.randrange(1, 6)):
            at = pick.randrange(len(made))
            match pick.randrange(3):
                case 0:
                    made[at] = pick.randrange(256)
                case 1:
                    del made[at : at + pick.randrange(1, 8)]
                case _:
                    made[at:at] = pick.randbytes(pick.randrange(1, 8))
        return bytes(made)


def _post(path: str, body: bytes, headers: Mapping[str, str], query: str = "") -> Request:
    return senders.posted(body, headers, path=path, query=query)


def _moved(request: Request, path: str) -> Request:
    return Request(
        method=request.method,
        path=path,
        query=request.query,
        headers=request.headers,
        body=request.body,
        client="",
        received_at=0,
    )


def _twilio(body: bytes, now: int, _n: int) -> Request:
    import hashlib
    import hmac

    query = "bodySHA256=" + hashlib.sha256(body).hexdigest()
    url = f"https://hooks.example.com/hooks/twilio?{query}"
    signature = base64.b64encode(hmac.new(SECRET.encode(), url.encode(), hashlib.sha1).digest()).decode()
    return _post("/hooks/twilio", body, {"x-twilio-signature": signature}, query)


def _grid(body: bytes, _now: int, n: int) -> Request:
    event = {"id": f"g-{n}", "topic": "/t", "subject": "s", "eventType": "t", "eventTime": "2026-01-31T06:00:00Z"}
    return _post(
        "/hooks/grid",
        json.dumps([{**event, "data": body.decode()}] * (n % 3 + 1)).encode(),
        {},
        f"access_token={SECRET}",
    )


def _batch(body: bytes, _now: int, n: int) -> Request:
    event = {"specversion": "1.0", "id": str(n), "source": "/s", "type": "t", "data": body.decode("utf-8", "replace")}
    return _post(
        "/hooks/batch",
        json.dumps([{**event, "id": f"{n}-{i}"} for i in range(n % 4)]).encode(),
        {"content-type": "application/cloudevents-batch+json"},
    )


_GITHUB = {"x-github-event": "push"}
_GOOD: Sequence[Callable[[bytes, int, int], Request]] = (
    lambda body, _now, n: _post(
        "/hooks/none", body, {"ce-specversion": "1.0", "ce-id": str(n), "ce-source": "/s", "ce-type": "t"}
    ),
    lambda body, _now, _n: _post("/hooks/none", gzip.compress(body, 1), {"content-encoding": "gzip"}),
    lambda body, _now, _n: _post(
        "/hooks/none", body, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=1"}
    ),
    _batch,
    _grid,
    lambda body, _now, n: _post(f"/hooks/t{n % 7}/in/{SECRET}", body, {}),
    lambda body, _now, _n: _post("/hooks/site", body, {"x-api-key": SECRET, "origin": "https://a.example.com"}),
    lambda body, _now, _n: _post(
        "/hooks/basic", body, {"authorization": "Basic " + base64.b64encode(f"u:{SECRET}".encode()).decode()}
    ),
    lambda body, now, _n: _moved(senders.hub(body, now, SECRET.encode()), "/hooks/github"),
    lambda body, _now, n: _post("/hooks/gitlab", body, {"x-gitlab-token": SECRET, "idempotency-key": str(n % 1000)}),
    lambda body, now, _n: _moved(senders.standard(body, now), "/hooks/standard"),
    lambda body, now, _n: _moved(senders.stripe(body, now, SECRET.encode()), "/hooks/stripe"),
    lambda body, now, _n: _moved(senders.slack(body, now, SECRET.encode()), "/hooks/slack"),
    lambda body, now, _n: _moved(senders.shopify(body, now, SECRET.encode()), "/hooks/shopify"),
    _twilio,
    lambda body, now, _n: _post(
        "/hooks/jwt", body, {"authorization": f"Bearer {senders.token(now, SECRET, 'HS256', iss='i')}"}
    ),
    lambda body, _now, _n: _post("/hooks/sns", body, {"content-type": "text/plain"}),
)

# -- changes that keep the framing -------------------------------------------------------------------------------------
Change = Callable[[random.Random, bytes, Pairs, bytes], tuple[bytes, Pairs, bytes]]
_VALUES = (
    *(
        b"",
        b" ",
        b"\xff\xfe",
        b"%C0%A0",
        b"a" * 3000,
        b"0",
        b"-1",
        b"99999999999999999999",
        b"v1,",
        b"t=1,v1=",
        b'"',
        b"%",
    ),
    *(b"Bearer", b"Bearer a.b.c", b"Basic =", b"sha256=", b"gzip, gzip", b"br", b"application/cloudevents-batch+json"),
    *(
        b"application/cloudevents+json",
        b"text/plain; charset=utf-16",
        b"application/json",
        b"1.0",
        b"2026-01-31",
        b"\x7f",
    ),
    *(b"multipart/form-data; boundary=x", b"eyJhbGciOiJub25lIn0.e30.", b"=,;", b"\xe2\x82\xac", b"100-continue"),
)
_NAMES = (
    *(b"content-type", b"content-encoding", b"authorization", b"traceparent", b"tracestate", b"ce-id", b"ce-source"),
    *(b"ce-time", b"ce-specversion", b"ce-datacontenttype", b"webhook-id", b"webhook-timestamp", b"x-forwarded-for"),
    *(b"origin", b"cookie", b"aeg-event-type", b"x-amz-sns-message-type", b"accept-encoding", b"x-\xff"),
)


def _flip_body(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    made = bytearray(body or b"x")
    for _ in range(pick.randrange(1, 5)):
        made[pick.randrange(len(made))] = pick.randrange(256)
    return line, headers, bytes(made)


def _other_body(pick: random.Random, line: bytes, headers: Pairs, _body: bytes) -> tuple[bytes, Pairs, bytes]:
    bodies = (b"", b"[]", b"{}", b"null", b"[" * 300, b'"\\ud800"', b"\xff" * 50, pick.randbytes(200), b"{" * 5000)
    return line, headers, pick.choice(bodies)


def _set_header(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    at = pick.randrange(len(headers))
    return line, [*headers[:at], (headers[at][0], pick.choice(_VALUES)), *headers[at + 1 :]], body


def _bend_header(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    at = pick.randrange(len(headers))
    value = bytearray(headers[at][1] or b"x")
    value[pick.randrange(len(value))] = pick.choice([*range(0x21, 0x7F), *range(0x80, 0x100)])
    return line, [*headers[:at], (headers[at][0], bytes(value)), *headers[at + 1 :]], body


def _drop_header(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    at = pick.randrange(len(headers))
    return line, [*headers[:at], *headers[at + 1 :]] or headers, body


def _double_header(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    again = pick.choice(headers)
    return line, [*headers, (again[0], pick.choice([again[1], pick.choice(_VALUES)]))], body


def _add_header(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    return line, [*headers, (pick.choice(_NAMES[:-1]), pick.choice(_VALUES))], body


def _other_line(pick: random.Random, line: bytes, headers: Pairs, body: bytes) -> tuple[bytes, Pairs, bytes]:
    method, target, version = line.split(b" ")
    match pick.randrange(4):
        case 0:
            method = pick.choice([b"GET", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"PROPFIND"])
        case 1:
            target += pick.choice(
                [b"/", b"%00", b"?wait=1s", b"?wait=x", b"&" * 100, b"?a=%ff&a=%", b"%2F..", b"?" + b"a=1&" * 500]
            )
        case 2:
            target = pick.choice(
                [b"/hooks//in/x", b"/hooks/a/in/" + b"x" * 2000, b"/hooks", b"/", b"/hooks/%F0/in/%FF"]
            )
        case _:
            target = target.replace(b"/hooks/", b"/HOOKS/")
    return b" ".join((method, target, version)), headers, body


_CHANGES: Sequence[Change] = (
    *(_flip_body, _other_body, _set_header, _bend_header, _drop_header, _double_header, _add_header, _other_line),
)


def _written(line: bytes, headers: Pairs, body: bytes) -> bytes:
    given = [(name, value) for name, value in headers if name != b"content-length"]
    head = b"".join(b"%s: %s\r\n" % pair for pair in given)
    return b"%s\r\n%scontent-length: %d\r\n\r\n%s" % (line, head, len(body), body)


def _chunked(line: bytes, headers: Pairs, body: bytes, pick: random.Random) -> bytes:
    cut = pick.randrange(len(body) + 1)
    parts = [part for part in (body[:cut], body[cut:]) if part]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = b"".join(b"%s: %s\r\n" % pair for pair in headers if pair[0] != b"content-length")
    return b"%s\r\n%stransfer-encoding: chunked\r\n\r\n%s" % (line, head, chunks)
