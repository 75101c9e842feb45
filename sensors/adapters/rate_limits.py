"""What an answer's headers ask of its caller: to wait, and for how long. Pure.

`Retry-After` in seconds or as a date (measured by the answer's own `Date`, so that a wrong clock on either side does no
harm); `RateLimit` in its structured and older forms; `X-RateLimit-Remaining` and `-Reset` in seconds or unix time;
`X-Poll-Interval`. What makes no sense is as if it were absent.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST: Final = 86_400.0  # seconds; nobody is waited for longer without asking again
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_FIELD: Final = re.compile(r"(?:^|[;,\s])(r|remaining|t|reset)\s*=\s*(\d{1,12})", re.ASCII | re.IGNORECASE)
_UNIX: Final = 100_000_000.0  # what is greater is a moment and not a number of seconds


def retry_after(headers: Mapping[str, str], now: int) -> float | None:
    """Return how long `Retry-After` asks to wait, None when it is absent. `now` in UTC micros, for want of a `Date`."""
    text = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(text):
        return min(LONGEST, float(text))
    moment = _date(text)
    if moment is None:
        return None
    here = _date(headers.get("date", ""))
    return min(LONGEST, max(0.0, moment - (now / 1e6 if here is None else here)))


def quota_wait(headers: Mapping[str, str], now: int) -> float | None:
    """Return how long to wait because nothing is left of a quota, None when something is or nobody says."""
    remaining, reset = _number(headers.get("x-ratelimit-remaining")), _number(headers.get("x-ratelimit-reset"))
    if remaining is None:
        remaining, reset = _number(headers.get("ratelimit-remaining")), _number(headers.get("ratelimit-reset"))
    if remaining is None and "ratelimit" in headers:
        fields = {name.lower()[0:3]: float(text) for name, text in _FIELD.findall(headers["ratelimit"])}
        remaining = fields.get("r", fields.get("rem"))
        reset = fields.get("t", fields.get("res"))
    if remaining is None or remaining >= 1 or reset is None:
        return None
    if reset > _UNIX:
        here = _date(headers.get("date", ""))
        reset -= now / 1e6 if here is None else here
    return min(LONGEST, max(0.0, reset))


def least_interval(headers: Mapping[str, str]) -> float:
    """Return how long to leave between two polls at least, as the answer wishes."""
    wished = _number(headers.get("x-poll-interval"))
    return 0.0 if wished is None else min(LONGEST, wished)


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
