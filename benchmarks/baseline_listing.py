"""The fixed baseline of the listing benchmark: the SDK's own paginator over all pages, and nothing done with them.

`python -m benchmarks.baseline_listing ENDPOINT BUCKET PREFIX [quick]` makes a client, says `ready`, and for each line
of its input (a number of objects, 0 for all that are left) lists so many more and answers with one JSON line: objects,
wall and CPU seconds. `quick` gives the SDK a faster parser of timestamps, as Tidegate does: to tell that apart.
"""

import asyncio
import json
import sys
import time
from datetime import datetime
from typing import Any

import uvloop
from aiobotocore.session import AioSession
from botocore.config import Config


async def main(endpoint: str, bucket: str, prefix: str, quick: bool) -> None:
    """List in portions until the input ends; a new listing begins when the one before is complete."""
    session = AioSession()
    if quick:
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=datetime.fromisoformat)
    async with session.create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(s3={"addressing_style": "path"}),
    ) as client:
        pages: Any = None
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if pages is None:
                pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix).__aiter__()
            limit, objects, size = int(line), 0, 0
            started, cpu = time.perf_counter(), time.process_time()
            while not limit or objects < limit:
                try:
                    page = await pages.__anext__()
                except StopAsyncIteration:
                    pages = None
                    break
                for item in page.get("Contents", ()):
                    objects += 1
                    size += len(item["Key"]) + len(item["ETag"]) + item["Size"]
                    _ = item["LastModified"]
            told = {"objects": objects, "s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
            print(json.dumps({**told, "size": size, "done": pages is None}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], "quick" in sys.argv[4:]))
