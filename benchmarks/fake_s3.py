"""An S3 server of one bucket that holds millions of objects and costs no memory: ListObjectsV2 over HTTP, no more.

A real server takes longer to fill with a million objects than the benchmark may last. The SDK on top is the real one.
Run: `python -m benchmarks.fake_s3 PORT PART=COUNT…`. Besides S3 it answers `POST /_add?part=P&n=N` (let objects
appear) and `GET /_listings` (of each listing its prefix, whether Tidegate asked, its pages, and when, on the monotonic
clock, it began and ended).
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from benchmarks.bucket import Bucket
from benchmarks.sink import Sink

BUCKET = "bench"
_XML = b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\nserver: fake\r\ncontent-length: %d\r\n\r\n%s"
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 501 Not Implemented\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n%s"
_ERROR = b"<Error><Code>NotImplemented</Code><Message>this server only lists</Message></Error>"
_LOCATION = b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>'
_VERSIONING = b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'


class Front:
    """Answers requests from a bucket and remembers when listings began and ended."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._listings: list[dict[str, Any]] = []

    def on_request(self, arrived: float, line: bytes, headers: bytes, _body: bytes) -> bytes:
        """Answer one request (see `benchmarks.sink.Sink`)."""
        method, target, _ = line.decode().split(" ", 2)
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = unquote(parts.path).strip("/")
        if path == "_add":
            self._bucket.add(query["part"], int(query["n"]))
            return _EMPTY
        if path == "_listings":
            return _xml(json.dumps(self._listings).encode())
        if path == BUCKET and method == "HEAD":
            return _EMPTY
        if path == BUCKET and method == "GET":
            if "list-type" in query:
                return self._list(arrived, query, ours=b"tidegate" in headers.lower())
            if "location" in query:
                return _xml(_LOCATION)
            if "versioning" in query:
                return _xml(_VERSIONING)
        return _REFUSED % (len(_ERROR), _ERROR)

    def _list(self, arrived: float, query: Mapping[str, str], *, ours: bool) -> bytes:
        after = query.get("continuation-token") or query.get("start-after", "")
        limit = min(1000, int(query.get("max-keys", 1000)))
        page = self._bucket.listing(query.get("prefix", ""), after, limit, query.get("delimiter", ""))
        if limit == 1000 and "delimiter" not in query:  # anything else is a look, no listing
            self._note(arrived, (query["prefix"], ours), begins=not after, ends=b"<IsTruncated>false" in page[:600])
        return _xml(page)

    def _note(self, arrived: float, who: tuple[str, bool], *, begins: bool, ends: bool) -> None:
        if begins:
            listing = {"prefix": who[0], "ours": who[1], "pages": 0, "begun": arrived, "ended": None}
            self._listings.append(listing)
        found = next((one for one in reversed(self._listings) if (one["prefix"], one["ours"]) == who), None)
        if found is not None:
            found["pages"] += 1
            found["ended"] = time.monotonic() if ends else None


def _xml(body: bytes) -> bytes:
    return _XML % (len(body), body)


async def serve(port: int, parts: dict[str, int]) -> None:
    """Serve until the process ends."""
    front = Front(Bucket(BUCKET, parts))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(front.on_request), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(
        serve(int(sys.argv[1]), {part: int(count) for part, _, count in (word.partition("=") for word in sys.argv[2:])})
    )
