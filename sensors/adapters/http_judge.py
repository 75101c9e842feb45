"""What an answer of an API means for whoever asked: go on, wait, or say what is wrong in one sentence.

In flow answers, out flow nothing (it is fine), a BackOff with the seconds to wait, or a NotConnected whose sentence
names the cause and what would help. Bodies are not repeated: they may hold what was sent.
"""

from typing import Final

from sensors.adapters.http_asking import Answer, host_of, shown_url
from sensors.adapters.rate_limits import quota_wait, retry_after
from sensors.errors import BackOff, NotConnected
from sensors.hosts import Hosts
from sensors.units import format_duration

PATIENCE: Final = 60.0  # seconds to wait when a host asks for patience and does not say how much
LONGEST: Final = 3600.0
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_WORDS: Final = {
    400: "does not understand the request (400); correct `query`, `headers` or the body",
    401: "refuses the credentials (401); correct `auth` or `headers`",
    403: "does not allow it (403); the credentials lack a right, or the address is refused",
    404: "is not there (404); correct `url`",
    405: "does not allow this method (405); correct `method`",
    406: "cannot answer in JSON (406); correct the header `Accept`",
    410: "is gone for good (410); correct `url`",
    415: "does not take this kind of body (415); correct the header `Content-Type`",
    422: "finds the request wrong (422); correct `query` or the body",
}


class Waits(BackOff):
    """The host is to be left alone for a while, as it said before: nothing was asked, and nothing is wrong."""


def admit(hosts: Hosts, url: str) -> None:
    """Raise Waits while a host is to be left alone."""
    wait, why = hosts.remaining(host_of(url))
    if wait > 0:
        raise Waits(f"{why}; it is asked again in {_span(wait)}", wait)


def judge(answer: Answer, hosts: Hosts, now: int, *, retried: bool = False) -> None:
    """Return for a success (2xx, 304), note what it says of its limits, raise for all else. `now` in UTC micros."""
    at, host, status = shown_url(answer.url), host_of(answer.url), answer.status
    asked = retry_after(answer.headers, now)
    quota = quota_wait(answer.headers, now)
    if 200 <= status < 300 or status == 304:
        hosts.fine(host)
        if quota:
            hosts.pause(host, quota, f"{host} allows no more requests for now")
        return
    limited = status == 429 or (status == 403 and (asked is not None or quota is not None))
    if limited or (status == 503 and asked is not None):
        strikes = hosts.strike(host)
        wait = asked if asked is not None else quota
        if not wait:
            wait = min(LONGEST, PATIENCE * 2.0 ** min(strikes, 10)) if wait is None else 1.0
        why = f"{host} asks for patience ({status})"
        hosts.pause(host, wait, why)
        raise BackOff(f"{why}; it is asked again in {_span(wait)}", wait)
    if status >= 500:
        raise NotConnected(f"{at} failed with an error of its own ({status}); nothing was skipped")
    if status in REDIRECTS:
        raise NotConnected(f"{at} redirects ({status}) and does not say where to; write the final URL")
    words = _WORDS.get(status) or f"answers {status}, which is neither a success nor an error of its own; correct `url`"
    if status == 401 and retried:
        words = "refuses also a fresh token (401); correct `scopes`, `audience` or the client's rights"
    raise NotConnected(f"{at} {words}")


def _span(seconds: float) -> str:
    return format_duration(float(max(1, round(seconds))))
