"""One Azure storage account: where it is, how it is signed in to, and the SDK's clients for it.

In flow the options of a sensor or of a `connection` of `kind: azure`; out flow clients of azure-storage-file-datalake,
azure-storage-blob and azure-storage-queue. Nothing connects here. The clients do not retry: what they meet is told at
once (see `azure_errors`), and the runner waits and tries again.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient
    from azure.storage.filedatalake.aio import DataLakeServiceClient
    from azure.storage.queue.aio import QueueClient

_PATHS: Final = re.compile(rb'"paths"\s*:\s*\[')
_SUFFIX: Final = "core.windows.net"
_QUIET: Final[Mapping[str, Any]] = {  # seconds; the sensor's hang timeout is a minute and more
    "retry_total": 0,
    "connection_timeout": 10,
    "read_timeout": 30,
    "user_agent": "tidegate",
}
_EMULATOR: Final = (
    "AccountName=devstoreaccount1;"
    # Published by Microsoft for every emulator there is.
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1"
)


class AzureOptions(BaseModel):
    """How an account is reached: as options of a sensor, and as a connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account_url: str | None = Field(None, description="the account, such as https://acct.dfs.core.windows.net")
    queue_url: str | None = Field(None, description="its queue service, where that cannot be told from `account_url`")
    connection_string: SecretStr | None = Field(None, description="instead of `account_url` and a key or SAS")
    account_key: SecretStr | None = Field(None, description="a key of the account")
    sas: SecretStr | None = Field(None, description="a shared access signature (`sv=…&sig=…`)")
    client_id: str | None = Field(
        None, description="of the managed identity to use; without key, SAS and this, the default credential chain"
    )


class AzureConnection(AzureOptions):
    """An entry of `connections`."""

    kind: Literal["azure"]


@dataclass(frozen=True, slots=True)
class AzureAccount:
    """An account. `lake_url` and `queue_url` have no `/` at the end; one of `key` and `sas` may be set.

    `service` names the account as OpenLineage does (`acct.dfs.core.windows.net`). `name` is empty behind a domain of
    one's own, which does not tell it.
    """

    name: str
    service: str
    lake_url: str
    queue_url: str | None
    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    client_id: str | None = None

    @property
    def host(self) -> str:
        """Return where it is reached: host, and port if there is one."""
        return urlsplit(self.lake_url).netloc

    @property
    def queue_host(self) -> str:
        """Return where its queues are reached."""
        return urlsplit(self.queue_url or self.lake_url).netloc

    @asynccontextmanager
    async def lake(self) -> AsyncIterator["DataLakeServiceClient"]:
        """Make the client of the Data Lake service."""
        from azure.storage.filedatalake.aio import DataLakeServiceClient

        async with AsyncExitStack() as stack:
            credential = await self._credential(stack)
            client = DataLakeServiceClient(self.lake_url, credential, raw_response_hook=_is_listing, **_QUIET)
            yield await stack.enter_async_context(client)

    @asynccontextmanager
    async def blobs(self) -> AsyncIterator["BlobServiceClient"]:
        """Make the client of the blob service, for what the Data Lake service cannot do."""
        from azure.storage.blob.aio import BlobServiceClient

        async with AsyncExitStack() as stack:
            credential = await self._credential(stack)
            url = self.lake_url.replace(".dfs.", ".blob.", 1)
            yield await stack.enter_async_context(BlobServiceClient(url, credential, **_QUIET))

    @asynccontextmanager
    async def queue(self, name: str, **settings: Any) -> AsyncIterator["QueueClient"]:
        """Make the client of one queue; `settings` go to the SDK. ValueError when its URL is not known."""
        from azure.storage.queue.aio import QueueClient

        if self.queue_url is None:
            raise ValueError("the queue service's URL is not known; name it with `queue_url`")
        async with AsyncExitStack() as stack:
            credential = await self._credential(stack)
            client = QueueClient(self.queue_url, name, credential, **{**_QUIET, **settings})
            yield await stack.enter_async_context(client)

    async def _credential(self, stack: AsyncExitStack) -> Any:
        """Return what the SDK's clients take; what has to be closed is closed with the stack."""
        if self.key is not None:
            return {"account_name": self.name, "account_key": self.key}
        if self.sas is not None:
            return self.sas  # as text: of its credential object the SDK's rename would not know the source's signature
        from azure.identity.aio import DefaultAzureCredential

        named = {"managed_identity_client_id": self.client_id} if self.client_id else {}
        return await stack.enter_async_context(DefaultAzureCredential(**named))


def read_account(options: AzureOptions, connection: str | None, connections: Mapping[str, Any]) -> AzureAccount:
    """Return the account that a sensor means: by a named connection, or by options of its own.

    Raises ValueError with a sentence (before `; ` what is wrong, after it what would be right); never shows a secret.
    """
    own = [name for name in AzureOptions.model_fields if getattr(options, name) is not None]
    if connection is None:
        if not own:
            raise ValueError("it is not said which account; write `connection` or `account_url`")
        return _account(options)
    if own:
        raise ValueError(f"`connection` stands beside `{own[0]}`; write one or the other")
    found = connections.get(connection)
    if found is None:
        known = ", ".join(sorted(connections)) or "none"
        raise ValueError(f"there is no connection `{connection}`; add it to `connections` (there: {known})")
    kind = found.get("kind") if isinstance(found, Mapping) else None
    if kind != "azure":
        raise ValueError(f"the connection `{connection}` is of kind {kind!r}; name one of kind azure")
    try:
        return _account(AzureConnection.model_validate(found))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"the connection `{connection}`: `{where}`: {first['msg']}") from None
    except ValueError as error:
        raise ValueError(f"the connection `{connection}`: {error}") from None


def _account(options: AzureOptions) -> AzureAccount:
    key, sas = _text(options.account_key), _text(options.sas)
    if options.connection_string is not None:
        if options.account_url or key or sas:
            raise ValueError("`connection_string` stands beside `account_url`, `account_key` or `sas`; it is instead")
        return _from_string(options)
    if options.account_url is None:
        raise ValueError("`account_url` is missing; write one such as https://acct.dfs.core.windows.net")
    if key and sas:
        raise ValueError("`account_key` stands beside `sas`; write one or the other")
    return _made(options.account_url, options.queue_url, None, key, sas, options.client_id)


def _from_string(options: AzureOptions) -> AzureAccount:
    text = _text(options.connection_string) or ""
    if text.replace(" ", "").rstrip(";").lower() == "usedevelopmentstorage=true":
        text = _EMULATOR
    pairs = [part.partition("=") for part in text.strip().strip(";").split(";")]
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    name = parts.get("accountname")
    endpoint = parts.get("dfsendpoint") or parts.get("blobendpoint")
    scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", _SUFFIX)
    if endpoint is None:
        if name is None:
            raise ValueError("`connection_string` names neither AccountName nor BlobEndpoint; copy it from the portal")
        endpoint = f"{scheme}://{name}.dfs.{suffix}"
    key, sas = parts.get("accountkey"), parts.get("sharedaccesssignature")
    if not key and not sas:
        raise ValueError(
            "`connection_string` has neither AccountKey nor SharedAccessSignature; copy it from the portal"
        )
    return _made(endpoint, options.queue_url or parts.get("queueendpoint"), name, key, sas, None)


def _made(
    url: str, queue_url: str | None, name: str | None, key: str | None, sas: str | None, client_id: str | None
) -> AzureAccount:
    url = _checked(url, "account_url")
    split = urlsplit(url)
    host, path = split.hostname or "", split.path.strip("/")
    local = _local(host)
    if path and not local:
        raise ValueError("`account_url` has a path; write the account's alone and the file system in `filesystem`")
    if local and not path:
        raise ValueError("`account_url` names no account; an emulator's ends in it: http://127.0.0.1:10000/NAME")
    if not local:
        url = url.replace(".blob.", ".dfs.", 1).replace(".queue.", ".dfs.", 1)
    if key is None and sas is None and split.scheme != "https":
        raise ValueError(
            "`account_url` must begin with https:// to sign in without a key; Azure tokens go over TLS only"
        )
    if queue_url is not None:
        queue_url = _checked(queue_url, "queue_url")
    elif ".dfs." in url and not local:
        queue_url = url.replace(".dfs.", ".queue.", 1)
    if not name:
        name = path if local else host.partition(".")[0] if ".dfs." in url else ""
    if key and not name:
        raise ValueError("the account's name cannot be told from `account_url`; use `connection_string` for the key")
    service = f"{name}.dfs.{_SUFFIX}" if local else urlsplit(url).netloc.replace(".privatelink.", ".", 1)
    return AzureAccount(name, service, url, queue_url, _key(key), _sas(sas), client_id)


def _checked(url: str, option: str) -> str:
    try:
        split = urlsplit(url)
        known = split.scheme in ("http", "https") and split.hostname and split.port != 0
    except ValueError:
        split, known = urlsplit(""), False
    if not known or split.username or split.fragment:
        raise ValueError(f"`{option}` is no URL of an account; write one such as https://acct.dfs.core.windows.net")
    if split.query:
        raise ValueError(f"`{option}` has a query; if that is a shared access signature, put it into `sas`")
    return url.rstrip("/")


def _key(key: str | None) -> str | None:
    if not key:
        return None
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the account's key is not base64; copy it from the portal") from None
    return key


def _sas(sas: str | None) -> str | None:
    if not sas:
        return None
    sas = sas.lstrip("?")
    if "sig" not in parse_qs(sas):
        raise ValueError("the shared access signature has no `sig=`; copy the whole of it")
    return sas


def _local(host: str) -> bool:
    """Say whether a host is an emulator's, where the account's name is the first part of the path."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or "." not in host
    return True


def _is_listing(response: Any) -> None:
    """Refuse an answer to a listing that lists nothing at all: the SDK would take it for an empty page."""
    from azure.core.exceptions import DecodeError

    answer = response.http_response
    if answer.status_code != 200 or response.http_request.query.get("resource") != "filesystem":
        return
    if response.http_request.method == "GET" and _PATHS.search(answer.content) is None:
        raise DecodeError("The listing has no paths.", response=answer)


def _text(secret: SecretStr | None) -> str | None:
    return (secret.get_secret_value().strip() or None) if secret is not None else None
