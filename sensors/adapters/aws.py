"""How AWS, and what speaks like it, is reached: a session with the right credentials, a client that errs in sentences.

In flows an `AwsAccess` (see `aws_options`), out flow the answers of single calls. The SDK does the talking and the
signing; it does not retry. What passes at once (a kept connection that was closed, an internal error) is asked once
more here; everything else is told as NotConnected or BackOff, and the runner decides.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sensors.adapters.aws_errors import Asked, explain, passes, sdk_errors
from sensors.adapters.aws_options import AssumeRole, AwsAccess
from sensors.errors import NotConnected

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0  # longer than the long poll of a queue


class AwsClient:
    """A client of one service. `place` is what its sentences begin with, such as `s3://landing`."""

    def __init__(self, access: AwsAccess, service: str, place: str) -> None:
        self._access = access
        self._service = service
        self._place = place
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._throttled = 0

    @property
    def region(self) -> str | None:
        """Return the region that is asked, None before `open`."""
        return None if self._client is None else str(self._client.meta.region_name)

    async def open(self) -> None:
        """Make the client; nothing is asked yet. Raises NotConnected."""
        await self.close()
        try:
            async with AsyncExitStack() as stack:
                session = await asyncio.to_thread(_session, self._access, self._service)  # reads many files
                self._client = await stack.enter_async_context(_client(session, self._access, self._service))
                self._client.meta.events.register("before-call.s3.HeadBucket", _no_head_bucket)
                self._stack = stack.pop_all()
        except sdk_errors() as error:
            raise self._explained(error, "create_client") from error

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:
        """Ask once and return the parsed answer. Raises NotConnected (`Answered` with the code) or BackOff."""
        if self._client is None:
            raise NotConnected(f"{self._place}: not connected")
        method = getattr(self._client, operation)
        try:
            try:
                answer: Mapping[str, Any] = await method(**parameters)
            except sdk_errors() as error:
                if not passes(error):
                    raise
                answer = await method(**parameters)
        except sdk_errors() as error:
            raise self._explained(error, operation) from error
        self._throttled = 0
        return answer

    async def read(self, body: Any, limit: int) -> bytes:
        """Read at most `limit` bytes of an answer's streaming body, and let go of it. Raises NotConnected."""
        parts: list[bytes] = []
        left = limit
        try:
            async with body as stream:
                while left > 0 and (part := await stream.read(left)):
                    parts.append(part)
                    left -= len(part)
        except sdk_errors() as error:
            raise self._explained(error, "get_object") from error
        return b"".join(parts)

    async def close(self) -> None:
        """Let go of the connections; never raises."""
        self._client = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            await stack.aclose()
        except sdk_errors():
            return

    def _explained(self, error: Exception, operation: str) -> Exception:
        meta = None if self._client is None else self._client.meta
        asked = Asked(
            self._place,
            operation,
            self._access.endpoint_url or (meta.endpoint_url if meta else None),
            meta.region_name if meta else self._access.region,
            self._throttled,
        )
        told = explain(error, asked)
        if told.throttled:
            self._throttled += 1
        return told.error


def quick_timestamp(value: Any) -> datetime:
    """Parse a timestamp as the SDK does, an ISO one of UTC a hundred times faster: a listing has one per object."""
    if isinstance(value, str) and value[-1:] == "Z" and value[4:5] == "-":
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    from botocore.utils import parse_timestamp

    moment: datetime = parse_timestamp(value)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _session(access: AwsAccess, service: str) -> Any:
    """Make a session with all the files read that a client of the service needs. Blocks: runs in a thread."""
    session = _new_session(access)
    if access.credentials is not None:
        keys = access.credentials
        token = keys.session_token.get_secret_value() if keys.session_token else None
        session.set_credentials(keys.access_key_id, keys.secret_access_key.get_secret_value(), token)
    _ = session.full_config
    loader = session.get_component("data_loader")
    for path in ("_retry", "endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data_with_path(path)
    for name in (service, "sts") if access.assume_role else (service,):
        _warm(name)
    return session


@cache
def _warm(service: str) -> None:
    """Have everything read and imported that a client of a service needs, by making one that is thrown away."""
    import aiobotocore.config
    import aiobotocore.httpsession  # noqa: F401 - imported here, off the loop
    from botocore.session import Session

    session = Session()
    session.register_component("data_loader", _loader())
    session.set_credentials("none", "none")
    session.create_client(service, region_name="us-east-1").close()


def _new_session(access: AwsAccess) -> Any:
    from aiobotocore.session import AioSession

    session = AioSession(profile=access.profile)
    session.register_component("data_loader", _loader())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=quick_timestamp)
    return session


@cache
def _loader() -> Any:
    """Return what reads the SDK's descriptions of services and keeps them: megabytes, the same for all clients."""
    from botocore.loaders import create_loader

    return create_loader()


def _client(session: Any, access: AwsAccess, service: str) -> Any:
    """Return the context that makes the client."""
    if access.assume_role is not None:
        provider = _RoleProvider(session, access, access.assume_role)
        session = _new_session(access)
        session.register_component("credential_provider", provider)
    return session.create_client(
        service,
        region_name=access.region or ("us-east-1" if access.endpoint_url else None),
        endpoint_url=access.endpoint_url,
        verify=access.ca_bundle,
        config=_config(access),
    )


def _config(access: AwsAccess) -> Any:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    return AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=64,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": access.addressing or "auto"},
        # Checksums that the protocol does not ask for are unknown to many servers that speak S3.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="tidegate",
        **({"signature_version": UNSIGNED} if access.anonymous else {}),
    )


def _no_head_bucket(**_: Any) -> Any:
    """Answer for the server that the bucket's region is not known.

    Nobody here asks it. The SDK does, when a redirect names no region, and does so for ever when the answer is another
    such redirect.
    """
    from botocore.awsrequest import AWSResponse

    return AWSResponse("", 200, {}, None), {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


class _RoleProvider:
    """The SDK's credentials of an assumed role, renewed before they expire."""

    def __init__(self, source: Any, access: AwsAccess, role: AssumeRole) -> None:
        self._source = source
        self._access = access
        self._role = role

    async def load_credentials(self) -> Any:
        from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
        from botocore.exceptions import NoCredentialsError

        found = await self._source.get_credentials()
        if found is None:
            raise NoCredentialsError
        role, access = self._role, self._access

        def create_client(service: str, **keys: Any) -> Any:
            return self._source.create_client(
                service,
                region_name=access.region or ("us-east-1" if role.endpoint_url else None),
                endpoint_url=role.endpoint_url,
                verify=access.ca_bundle,
                config=_config(access),
                **keys,
            )

        extra: dict[str, Any] = {"DurationSeconds": int(role.duration)}
        if role.external_id is not None:
            extra["ExternalId"] = role.external_id
        if role.session_name is not None:
            extra["RoleSessionName"] = role.session_name
        fetcher = AioAssumeRoleCredentialFetcher(create_client, found, role.role_arn, extra_args=extra)
        return AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "sts-assume-role")
