"""Reading a webhook's request from the socket, within bounds, and answering it.

In flow ASGI messages, out flow a body of at most so many bytes, or a refusal as soon as it is clear that it will be
none; and answers as ASGI messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import orjson

from sensors.batch import Reply
from sensors.errors import Refused
from sensors.headers import HeaderPolicy, is_secret, safe_text
from sensors.ports import Receipt
from tidegate.api.patience import Patience
from tidegate.refusals import Seen

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
Headers = tuple[tuple[bytes, bytes], ...]
Answer = tuple[int, Headers, bytes]

JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_SHOWN_HEADERS = 4096  # characters of a refused request's headers
_SHOWN_NAMES = 32  # names of its query's parameters


class Gone(Exception):
    """The sender is gone; there is nobody to answer, and nothing was stored."""


async def read_body(receive: Receive, headers: Mapping[str, Sequence[str]], cap: int, patience: Patience) -> bytes:
    """Read the body, counting; refuse it as soon as it is over the cap, or when the whole does not come in time."""
    declared = headers.get("content-length")
    if declared and declared[0].isdecimal() and int(declared[0]) > cap:
        raise Refused(413, "too_large", f"the body declares {declared[0]} bytes; the cap is {cap}")
    task = cast("asyncio.Task[Any]", asyncio.current_task())  # requests are answered in tasks of the server
    patience.begin(task)
    try:
        return await _read(receive, cap)
    except asyncio.CancelledError:
        if patience.lost(task):
            task.uncancel()
            reason = f"the body did not come within {patience.seconds:g} s"
            raise Refused(408, "slow", reason, headers={"Connection": "close"}) from None
        raise
    finally:
        patience.end(task)


async def _read(receive: Receive, cap: int) -> bytes:
    """Read a body of at most `cap` bytes. Raises Gone when the sender hangs up before its end."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    body = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > cap:
            raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
        return bytes(body)
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        if size > cap:
            raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
    if size > cap:
        raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
    return b"".join(parts)


def accepted(receipts: Sequence[Receipt]) -> bytes:
    """Return the standard answer: what became of each event."""
    if len(receipts) == 1:
        receipt = receipts[0]
        return b'{"events":[{"event":"%s","duplicate":%s}]}' % (
            receipt.uid.encode(),
            b"true" if receipt.duplicate else b"false",
        )
    return orjson.dumps({"events": [{"event": receipt.uid, "duplicate": receipt.duplicate} for receipt in receipts]})


def replied(reply: Reply) -> Answer:
    """Return an answer that a sensor has chosen."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.content_type is not None and reply.body:
        headers.append((b"content-type", reply.content_type.encode("latin-1")))
    return reply.status, tuple(headers), reply.body


def problem(status: int, detail: str, extra: Mapping[str, str]) -> tuple[Headers, bytes]:
    """Build an RFC 9457 answer."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    headers = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in extra.items())
    return (_PROBLEM, *headers), orjson.dumps(body)


async def respond(send: Send, answer: Answer) -> None:
    """Send an answer."""
    status, headers, body = answer
    length = () if status == HTTPStatus.NO_CONTENT else ((b"content-length", b"%d" % len(body)),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


def seen_of(scope: Scope, policy: HeaderPolicy, body: bytes | None, keep: int) -> Seen:
    """Return what may be kept of a refused request: no secret, and of the body no more than `keep` bytes."""
    given: dict[str, list[str]] = {}
    for name, value in scope["headers"][:64]:
        given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    shown: dict[str, str] = {}
    room = _SHOWN_HEADERS
    for name, text in policy.attributes(given).items():
        room -= len(name) + len(text)
        if room >= 0 and not is_secret(name):
            shown[name] = text
    parts = scope["query_string"].decode("latin-1").split("&")[:_SHOWN_NAMES]
    names = tuple(safe_text(part.partition("=")[0])[:64] for part in parts if part)
    text = safe_text(body[:keep].decode("utf-8", "replace")) if keep and body else ""
    return Seen(str(scope["method"])[:16], shown, names, None if body is None else len(body), text)
