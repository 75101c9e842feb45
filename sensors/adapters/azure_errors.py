"""What the Azure SDKs raise, as a sentence that names the cause for the person who runs the sensor.

In flow an exception of azure-core, azure-identity or azure-storage; out flows `BackOff` for throttling and
`NotConnected` for all else. No sentence shows a key or a signature.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs

from sensors.adapters.azure_account import AzureAccount
from sensors.errors import BackOff, NotConnected, SensorError

SKEW: Final = 600.0  # seconds; Azure refuses signatures whose time is 15 minutes off
WAIT: Final = 5.0  # seconds to wait when throttled without being told how long
LONGEST: Final = 3600.0  # seconds
_CODES: Final[Mapping[str, str]] = {
    "FilesystemNotFound": "there is no such file system; create it, or correct `filesystem`",
    "ContainerNotFound": "there is no such file system; create it, or correct `filesystem`",
    "QueueNotFound": "there is no such queue; create it, or correct its name",
    "FilesystemBeingDeleted": "the file system is being deleted",
    "ContainerBeingDeleted": "the file system is being deleted",
    "QueueBeingDeleted": "the queue is being deleted",
    "ContainerDisabled": "the file system is disabled",
    "QueueDisabled": "the queue is disabled",
    "AccountIsDisabled": "the account is disabled",
    "AuthorizationFailure": "access is denied: the account's network rules, or what was granted, do not allow it",
    "AuthorizationPermissionMismatch": "access is denied: a role, ACL or SAS permission is missing; grant it",
    "AuthorizationServiceMismatch": "access is denied: the SAS is not for this service",
    "AuthorizationResourceTypeMismatch": "access is denied: the SAS is not for this type of resource",
    "AuthorizationSourceIPMismatch": "access is denied: the SAS is not for this address",
    "AuthorizationProtocolMismatch": "access is denied: the SAS is for https only",
    "InsufficientAccountPermissions": "access is denied: the account may not do this",
    "KeyBasedAuthenticationNotPermitted": "the account does not allow its key; sign in with an identity",
    "PublicAccessNotPermitted": "access is denied: the account wants a signature",
    "NoAuthenticationInformation": "access is denied: the account wants a signature",
    "InvalidAuthenticationInfo": "the token is not accepted; has it expired, or is it of another tenant?",
    "EndpointUnsupportedAccountFeatures": "the account does not offer Data Lake calls with the features it has",
    "HierarchicalNamespaceNotEnabled": "the account has no hierarchical namespace",
    "OutOfRangeInput": "a name has a length that Azure does not allow",
    "InvalidResourceName": "a name has characters that Azure does not allow",
}
_SECRET: Final = re.compile(r"(?i)\b(sig=|signature=|accountkey=|sharedkey [^:\s]+:)[^&;,\s'\"]*")


@contextlib.contextmanager
def telling(account: AzureAccount, place: str) -> Iterator[None]:
    """Turn what the SDK raises inside into `NotConnected` or `BackOff`. `place` begins the sentence."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise told(error, account, place) from error


def code_of(error: BaseException) -> str:
    """Return the service's own code for an error, empty when there is none."""
    code = getattr(error, "error_code", None)
    if not code and (response := getattr(error, "response", None)) is not None:
        code = response.headers.get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def told(error: BaseException, account: AzureAccount, place: str) -> SensorError:
    """Return what to raise instead of an SDK's exception."""
    from azure.core import exceptions as azure

    response = getattr(error, "response", None)
    if isinstance(error, azure.HttpResponseError) and response is not None:
        return _answered(error, response, account, place)
    if isinstance(error, azure.ClientAuthenticationError):
        return NotConnected(f"{place}: signing in failed: {_first(error)}")
    if isinstance(error, azure.ServiceRequestTimeoutError | azure.ServiceResponseTimeoutError):
        return NotConnected(f"{place}: no answer in time")
    if isinstance(error, azure.ServiceRequestError):
        return NotConnected(f"{place}: {_unreachable(error)}")
    if isinstance(error, azure.ServiceResponseError | azure.IncompleteReadError):
        return NotConnected(f"{place}: the connection broke off: {_first(error)}")
    return NotConnected(f"{place}: {_first(error)}")


def _answered(error: Any, response: Any, account: AzureAccount, place: str) -> SensorError:
    """Tell of an answer with an error's status."""
    from azure.core.exceptions import DecodeError

    status, code = int(response.status_code), code_of(error)
    if status == 429 or status == 503 or code == "ServerBusy":  # noqa: PLR1714 - a number and a word
        wait = _wait(response.headers)
        return BackOff(f"{place}: Azure asks to slow down ({code or status}); waiting {wait:g} s", wait)
    if status in (401, 403) and (cause := _out_of_time(response, account)) is not None:
        return NotConnected(f"{place}: {cause}")
    if code == "AuthenticationFailed":
        return NotConnected(f"{place}: {_not_authentic(error, response, account)}")
    if code in _CODES:
        return NotConnected(f"{place}: {_CODES[code]} ({code})")
    if isinstance(error, DecodeError) or (status < 400):
        return NotConnected(f"{place}: the answer is not Azure's; is something in between?")
    if status in (401, 403):
        return NotConnected(f"{place}: access is denied ({code or status}): {_first(error)}")
    if status >= 500:
        return NotConnected(f"{place}: Azure has trouble of its own ({code or status})")
    return NotConnected(f"{place}: Azure answered {status} ({code or 'no code'}): {_first(error)}")


def _out_of_time(response: Any, account: AzureAccount) -> str | None:
    """Say that a shared access signature is not valid now; None when its time is not the cause."""
    fields = parse_qs(account.sas or "")
    now = _date(response.headers.get("Date")) or time.time()
    ends, starts = _moment(fields.get("se")), _moment(fields.get("st"))
    if ends is not None and ends <= now:
        return f"the shared access signature expired at {fields['se'][0]}; make a new one"
    if starts is not None and starts > now:
        return f"the shared access signature is not valid before {fields['st'][0]}"
    return None


def _not_authentic(error: Any, response: Any, account: AzureAccount) -> str:
    """Say why a signature was refused: time, or the secret itself."""
    server = _date(response.headers.get("Date"))
    now = time.time()
    detail = str(getattr(error, "message", "") or "")
    if account.sas is not None:
        return "the shared access signature is not accepted: it was altered, or its key or policy is no longer there"
    if server is not None and abs(server - now) > SKEW:
        way = "behind" if server > now else "ahead"
        return f"this machine's clock is {abs(server - now) / 60:.0f} minutes {way} of Azure's; set it right"
    if "date header" in detail.lower() and "old" in detail.lower():
        return "Azure finds the time of the request too old; is this machine's clock right?"
    if account.key is not None:
        return f"the key is not one of the account `{account.name}`; has it been changed?"
    return f"the identity is not accepted: {_first(error)}"


def _unreachable(error: BaseException) -> str:
    import ssl

    import aiohttp

    cause = getattr(error, "inner_exception", None) or error.__cause__
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return f"there is no host {cause.host}; is the account's name right, and does DNS work?"
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {_first(cause)}"
    if isinstance(cause, aiohttp.ClientConnectorError):
        return f"nothing answers at {cause.host}:{cause.port} ({cause.os_error.strerror or cause.os_error})"
    return f"it cannot be reached: {_first(error)}"


def _wait(headers: Mapping[str, str]) -> float:
    """Return how long to wait, in seconds, at least one."""
    text = headers.get("Retry-After") or ""
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    elif (until := _date(text)) is not None:
        seconds = until - (_date(headers.get("Date")) or time.time())
    else:
        millis = headers.get("x-ms-retry-after-ms") or headers.get("retry-after-ms") or ""
        seconds = float(millis[:9]) / 1000 if millis.isascii() and millis.isdigit() else WAIT
    return min(max(seconds, 1.0), LONGEST)


def _date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _moment(values: list[str] | None) -> float | None:
    if not values:
        return None
    try:
        moment = datetime.fromisoformat(values[0])
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _first(error: BaseException) -> str:
    """Return the first line of an error's message, without secrets."""
    text = str(getattr(error, "message", None) or error).strip()
    line = (text.splitlines()[0] if text else type(error).__name__).removeprefix(f"({code_of(error)}) ")
    return _SECRET.sub(r"\1…", line)[:300]
