"""Looks into files made by tests: bytes to read parts of, and what an inspector finds in them."""

from collections.abc import Mapping
from typing import Any

import orjson

from sensors.adapters.content_options import ContentOptions
from sensors.adapters.contents import make_inspector
from sensors.adapters.object_steps import Inspector


class Blob:
    """Bytes to read parts of; notes what was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[int] = []

    async def read(self, start: int, length: int) -> bytes:
        begin = max(0, len(self.data) + start) if start < 0 else start
        part = self.data[begin : begin + length]
        self.reads.append(len(part))
        return part


def inspector(**options: Any) -> Inspector:
    """Return an inspector of files with these options."""
    made = make_inspector(ContentOptions.model_validate({"inspect": options or True}))
    assert made is not None
    return made


async def look(name: str, data: bytes, **options: Any) -> Mapping[str, Any]:
    """Return what is found in a file."""
    found = await inspector(**options).inspect(name, len(data), Blob(data).read)
    assert found.violation is None
    assert orjson.loads(orjson.dumps(found.data)) == found.data
    return found.data


def types(found: Mapping[str, Any]) -> dict[str, str]:
    """Return name to type."""
    assert "error" not in found, found["error"]
    return {column["name"]: column["type"] for column in found["schema"]}
