"""Copies of objects that are too large for one call.

In flow the arguments of CopyObject and what a HEAD of the source said, out flows the copy, made in parts on the server.
What CopyObject takes along by itself is taken along here: headers, metadata, tags. What was begun and cannot be ended
is aborted.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from sensors.adapters.aws import AwsClient
from sensors.errors import SensorError

LARGEST_COPY: Final = 5 << 30  # bytes that one CopyObject takes
PART: Final = 512 << 20
_MOST_PARTS: Final = 10_000
_AT_ONCE: Final = 4
_KEPT: Final = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires"),
    *("Metadata", "StorageClass", "WebsiteRedirectLocation"),
)


async def copy_in_parts(
    client: AwsClient, asked: Mapping[str, Any], source: Mapping[str, Any], tags: Mapping[str, str], part: int
) -> None:
    """Copy an object in parts of `part` bytes, or larger ones when there would be too many. Errors as of the client."""
    size = int(source["ContentLength"])
    step = max(part, -(-size // _MOST_PARTS))
    common = {name: value for name, value in asked.items() if not name.startswith("CopySource")}
    kept = {name: source[name] for name in _KEPT if source.get(name)}
    tagging = {"Tagging": urlencode(tags)} if tags else {}
    upload = (await client.call("create_multipart_upload", **common, **kept, **tagging))["UploadId"]
    room = asyncio.Semaphore(_AT_ONCE)

    async def copied(number: int, start: int) -> dict[str, Any]:
        end = min(start + step, size) - 1
        async with room:
            answer = await client.call(
                "upload_part_copy",
                **asked,
                UploadId=upload,
                PartNumber=number,
                CopySourceRange=f"bytes={start}-{end}",
            )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    work = [asyncio.ensure_future(copied(n, start)) for n, start in enumerate(range(0, size, step), 1)]
    try:
        parts = await asyncio.gather(*work)
        await client.call(
            "complete_multipart_upload", **common, UploadId=upload, MultipartUpload={"Parts": list(parts)}
        )
    except BaseException:
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        with contextlib.suppress(SensorError):  # the first error counts; a lifecycle rule cleans up what stays
            await client.call("abort_multipart_upload", **common, UploadId=upload)
        raise
