"""What an error of the AWS SDK means for the person who runs the service.

In flow an exception of the SDK and what was asked, out flows a NotConnected whose sentence names the cause and what
would help, or a BackOff with the seconds to wait. The texts of servers are shortened and made harmless; nothing that
was signed or sent is repeated.
"""

import random
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final

from sensors.errors import BackOff, NotConnected

LONGEST_WAIT: Final = 60.0
LONGEST_ASKED: Final = 3600.0

_ELSEWHERE: Final = frozenset({"PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"})
_MOVED: Final = _ELSEWHERE | {"301", "307", "400", "AuthorizationHeaderMalformed"}
_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_THROTTLED: Final = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "503", "ServiceUnavailable", "429", "TooManyRequests", "OverLimit"}
    | {"TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled", "Throttled"}
    | {"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "LimitExceeded"}
)
_NO_BUCKET: Final = "there is no such bucket at {at}; correct `bucket` or `endpoint_url`"
_NO_QUEUE: Final = "there is no such queue{said}; correct its URL, or the region"
_EXPIRED: Final = "the credentials have expired{said}; renew them, or let a role or profile renew them"
_NO_KEY: Final = "the access key is not known there{said}; correct `access_key_id`, or `endpoint_url`"
_NO_MATCH: Final = "the signature does not match{said}; correct `secret_access_key`"
_BAD_SESSION: Final = "the session token is not valid{said}; correct `session_token`"
_DENIED: Final = "{operation} is denied{said}{grant}"
_STUMBLED: Final = "{operation} failed: {at} answers with an error of its own{said}, or is no endpoint of this service"
_CODES: Final[Mapping[str, str]] = {
    "500": _STUMBLED,  # also what the SDK makes of an answer that it cannot read
    "NoSuchBucket": _NO_BUCKET,
    "QueueDoesNotExist": _NO_QUEUE,
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "InvalidAccessKeyId": _NO_KEY,
    "InvalidClientTokenId": _NO_KEY,
    "UnrecognizedClientException": _NO_KEY,
    "SignatureDoesNotMatch": _NO_MATCH,
    "InvalidSignatureException": _NO_MATCH,
    "IncompleteSignature": _NO_MATCH,
    "InvalidToken": _BAD_SESSION,
    "InvalidSecurity": _BAD_SESSION,
    "MissingAuthenticationToken": _BAD_SESSION,
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "AllAccessDisabled": _DENIED,
    "Forbidden": _DENIED,
    "401": _DENIED,
    "403": _DENIED,
}
_OURS: Final = frozenset({_EXPIRED, _NO_KEY, _NO_MATCH, _BAD_SESSION})  # about the credentials, whatever was asked
_NEEDS: Final[Mapping[str, str]] = {
    "list_objects_v2": "s3:ListBucket",
    "list_object_versions": "s3:ListBucketVersions",
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "put_object_tagging": "s3:PutObjectTagging",
    "copy_object": "s3:GetObject and s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "receive_message": "sqs:ReceiveMessage",
    "delete_message_batch": "sqs:DeleteMessage",
    "change_message_visibility_batch": "sqs:ChangeMessageVisibility",
    "get_queue_attributes": "sqs:GetQueueAttributes",
}
# So SQS and STS tell of a wrong clock: "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z
# (20260101T001500Z - 5 min.)"
_SIGNED_AT = re.compile(r"Signature (?:expired|not yet current): (\d{8}T\d{6}Z).*\((\d{8}T\d{6}Z) [-+]")


_BROKE: Final = "the connection to {at} broke: {why}"
_LATE: Final = "{at} did not answer in time"
_NO_NAME: Final = (
    "no connection to {at}: the name cannot be resolved ({why}); correct `endpoint_url`, `region` or `addressing`"
)
_NO_ANSWER: Final = "no connection to {at}: {why}; is it running, and is `endpoint_url` right?"
_NO_PROFILE: Final = "{error}; correct `profile`, or the AWS configuration files"
_NO_KEYS: Final = "the credentials cannot be had: {error}; sign in again, or correct where they come from"
_NO_SENSE: Final = "the answer of {at} cannot be understood; is it an endpoint of this service?"
_PROXY: Final = "the proxy cannot be used: {why}; correct HTTPS_PROXY or HTTP_PROXY"
# By the name of the error's class; the most derived one counts.
_SILENT: Final[Mapping[str, str]] = {
    "NoCredentialsError": "no credentials were found in the environment, the profile, the container or the instance; "
    "give `credentials` or `profile`, or `anonymous: true` for a public bucket",
    "ProfileNotFound": _NO_PROFILE,
    "ConfigNotFound": _NO_PROFILE,
    "ConfigParseError": _NO_PROFILE,
    "PartialCredentialsError": _NO_KEYS,
    "CredentialRetrievalError": _NO_KEYS,
    "MetadataRetrievalError": _NO_KEYS,
    "TokenRetrievalError": _NO_KEYS,
    "RefreshWithMFAUnsupportedError": _NO_KEYS,
    "SSOError": _NO_KEYS,
    "LoginError": _NO_KEYS,
    "NoRegionError": "no region is known; set `region`",
    "SSLError": "TLS with {at} failed: {why}; correct `endpoint_url`, or name the certificates in `ca_bundle`",
    "ProxyConnectionError": _PROXY,
    "InvalidProxiesConfigError": _PROXY,
    "ConnectTimeoutError": "no connection to {at}: no answer in time; is a firewall between?",
    "ReadTimeoutError": _LATE,
    "TimeoutError": _LATE,
    "HTTPClientError": _BROKE,
    "IncompleteReadError": _BROKE,
    "ResponseParserError": _NO_SENSE,
    "ChecksumError": _NO_SENSE,
    "KeyError": _NO_SENSE,
    "ParamValidationError": "{operation} cannot be asked: {why}",
    "BotoCoreError": "{operation} failed: {error}",
    "ValueError": "{operation} failed: {error}",
}


class Answered(NotConnected):
    """The server answered with an error: its `code` (`404` where there was no text) and HTTP `status`."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: of which place (`s3://bucket`), which operation, where; `throttled` times in a row before."""

    place: str
    operation: str
    endpoint: str | None
    region: str | None
    throttled: int = 0


@dataclass(frozen=True, slots=True)
class Explained:
    """The error to raise, and whether it asks for patience."""

    error: NotConnected | BackOff
    throttled: bool = False


@cache
def sdk_errors() -> tuple[type[Exception], ...]:
    """Return the errors that a call of the SDK may end with."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (ClientError, BotoCoreError, ResponseParserError, HttpError, OSError, TimeoutError, ValueError, KeyError)


def passes(error: Exception) -> bool:
    """Say whether asking again at once is likely to work: a kept connection was closed, or the server stumbled."""
    from botocore.exceptions import ClientError, ConnectionClosedError

    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (500, 502, 504)
    return isinstance(error, ConnectionClosedError)


def explain(error: Exception, asked: Asked) -> Explained:
    """Return what to raise for an error of `sdk_errors()`."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _answered(error, asked)
    return Explained(NotConnected(f"{asked.place}: {_unanswered(error, asked)}"))


def plain(text: Any, limit: int = 300) -> str:
    """Return a foreign text on one line, without control characters, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: limit * 2]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


# -- the server said no -----------------------------------------------------------------------------------------------
def _answered(error: Any, asked: Asked) -> Explained:
    answer: Mapping[str, Any] = error.response
    meta: Mapping[str, Any] = answer.get("ResponseMetadata") or {}
    headers: Mapping[str, str] = meta.get("HTTPHeaders") or {}
    told: Mapping[str, Any] = answer.get("Error") or {}
    code = plain(told.get("Code") or meta.get("HTTPStatusCode") or "", 100)
    status = int(meta.get("HTTPStatusCode") or 0)
    message = plain(told.get("Message") or "")
    if code in _THROTTLED or status in (429, 503):
        wait, given = _wait(headers, asked.throttled)
        asks = f"and asks to wait {wait:.0f} s" if given else f"so the next try is in {wait:.0f} s"
        return Explained(BackOff(f"{asked.place}: the server is asked too often ({code}), {asks}", wait), True)
    role = error.operation_name.startswith("AssumeRole")
    what = _cause(code, message, told, headers, asked, role=role)
    return Explained(Answered(f"{asked.place}: {what}", code, status))


def _cause(
    code: str, message: str, told: Mapping[str, Any], headers: Mapping[str, str], asked: Asked, *, role: bool
) -> str:
    skew = _skew(code, message, told, headers)
    if skew is not None:
        return skew
    said = f" ({message})" if message else ""
    template = _CODES.get(code)
    if role and template not in _OURS:
        return f"the role cannot be taken on: {code}{said}; correct `assume_role`, or the role's trust policy"
    if code == "404" and asked.operation.startswith("list_"):
        template = _NO_BUCKET
    region = plain(headers.get("x-amz-bucket-region") or told.get("Region") or "", 64)
    if code in _MOVED and region not in ("", asked.region):
        return f"the bucket is in region {region}, and {asked.region} was asked; set `region: {region}`"
    if code in _ELSEWHERE:
        where = plain(told.get("Endpoint") or "another one", 200)
        return f"this endpoint does not serve the bucket ({where} does); set `region` or `endpoint_url`"
    if template is None:
        return f"{asked.operation} failed: {code}{said}"
    needed = _NEEDS.get(asked.operation)
    grant = f"; grant {needed} to these credentials" if needed else ""
    return template.format(said=said, at=asked.endpoint, operation=asked.operation, grant=grant)


def _wait(headers: Mapping[str, str], throttled: int) -> tuple[float, bool]:
    """Return the seconds to wait, and whether the server named them."""
    asked = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", asked, re.ASCII):
        return min(LONGEST_ASKED, max(1.0, float(asked))), True
    if asked:
        try:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            pass
        else:
            return min(LONGEST_ASKED, max(1.0, seconds)), True
    return min(LONGEST_WAIT, 2.0 ** min(throttled, 10)) * random.uniform(0.75, 1.0), False


def _skew(code: str, message: str, told: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Return the sentence on a wrong clock, None when the clock is not to blame."""
    signed = _SIGNED_AT.search(message)
    if code not in _SKEWED and signed is None:
        return None
    ours = _moment(signed[1] if signed else told.get("RequestTime")) or datetime.now(UTC)
    theirs = _moment(signed[2] if signed else told.get("ServerTime")) or _moment(headers.get("date"))
    how = "is wrong"
    if theirs is not None:
        seconds = (ours - theirs).total_seconds()
        far = f"{abs(seconds):.0f} s" if abs(seconds) < 600 else f"{abs(seconds) / 60:.0f} minutes"
        how = f"is {far} {'ahead of' if seconds > 0 else 'behind'} the server's"
    return f"this machine's clock {how}, so requests are refused ({code}); set the clock, best by NTP"


def _moment(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
        except (ValueError, TypeError):
            continue
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None


# -- there was no answer ----------------------------------------------------------------------------------------------
def _unanswered(error: Exception, asked: Asked) -> str:
    template = next((_SILENT[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _SILENT), _BROKE)
    root = _root(error)
    if type(error).__name__ == "EndpointConnectionError":
        unknown = isinstance(root, socket.gaierror) or "DNS" in type(root).__name__
        template = _NO_NAME if unknown else _NO_ANSWER
    return template.format(
        error=plain(error), why=plain(root), at=asked.endpoint or "the endpoint", operation=asked.operation
    )


def _root(error: BaseException) -> BaseException:
    """Return the innermost error that the SDK wraps."""
    for _ in range(10):
        inner = getattr(error, "kwargs", {}).get("error") or error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner
    return error
