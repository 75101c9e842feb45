"""What a database's refusal means, in one sentence that names the remedy, and never a secret.

In flow errors of psycopg (before a connection is there: text without a code; afterwards SQLSTATE), out flow
NotConnected and BackOff.
"""

from collections.abc import Mapping
from typing import Final

import psycopg

from sensors.errors import BackOff, NotConnected, SensorError

_BUSY: Final = 5.0
# What the beginning of a connection says -> what to do about it; the first that occurs.
_OPENING: Final[Mapping[str, str]] = {
    "Connection refused": "nobody listens there; is the server up, and are host and port right?",
    "failed to resolve host": "there is no such host; correct it",
    "could not translate host name": "there is no such host; correct it",
    "password authentication failed": "user or password is wrong; correct the secret that the URL names",
    "no password supplied": "the server wants a password; name one in the URL: user:${env:PGPASSWORD}@host",
    "no pg_hba.conf entry": "the server lets nobody in from here as this user; add a line to its pg_hba.conf",
    "does not exist": "the database or the user does not exist; create it, or correct the URL",
    "certificate": "the server's certificate is not trusted; correct `sslmode` and `sslrootcert` in the URL",
    "SSL": "the server and we do not agree on encryption; correct `sslmode` in the URL",
    "too many clients": "the server takes no more connections now",
    "remaining connection slots": "the server takes no more connections now",
    "is starting up": "the server is starting",
    "is shutting down": "the server is stopping",
    "timeout": "it does not answer; is a firewall in the way?",
    "timed out": "it does not answer; is a firewall in the way?",
}
_CODES: Final[Mapping[str, str]] = {
    "42P01": "the table is not there; correct the query, or the schema of the user's search_path",
    "3F000": "the schema is not there; correct the query",
    "42703": "a column is not there; correct the query, or `key`, `high` and `version`",
    "42501": "the user may not read it; grant select to it",
    "42601": "the query is no SQL that the server understands; correct it",
    "42P18": "the server cannot tell what :high is compared with; write :high::timestamptz or the like",
    "42883": "the server cannot compare or compute this; correct the query, or write :high::timestamptz or the like",
    "22007": "the stored position is no value of the high column any more; say `cursor: reset`",
    "22P02": "the stored position is no value of the high column any more; say `cursor: reset`",
    "25006": "the query writes, and a sensor only reads; take that out",
}


def of_opening(place: str, error: Exception) -> SensorError:
    """Say why there is no connection."""
    text = _plain(error)
    for sign, remedy in _OPENING.items():
        if sign in text:
            return NotConnected(f"{place}: {remedy}")
    return NotConnected(f"{place}: no connection can be made ({type(error).__name__}); are URL and network right?")


def of_query(place: str, error: Exception, timeout: float) -> SensorError:
    """Say why a query was not answered."""
    code = getattr(error, "sqlstate", None) or ""
    said = _plain(error)
    if code == "57014":
        return NotConnected(
            f"{place}: the query took longer than {timeout:g} s and was stopped; add an index on `high` and `key`, or "
            "raise `timeout`"
        )
    if code in _CODES:
        return NotConnected(f"{place}: {said}: {_CODES[code]}")
    if code.startswith(("53", "40")) or code == "55P03":
        return BackOff(f"{place}: {said}", _BUSY)
    if code.startswith(("57P", "08")) or isinstance(error, psycopg.OperationalError) or not code:
        return NotConnected(f"{place}: the connection is gone; is the server up?")
    return NotConnected(f"{place}: {said}")


def _plain(error: Exception) -> str:
    """Return the server's own words, on one line."""
    diag = getattr(error, "diag", None)
    primary = getattr(diag, "message_primary", None)
    return " ".join((primary or str(error)).split())[:300]
