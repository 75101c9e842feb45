"""What a program printed, kept as far as its task's output needs it. Bounded, whatever it prints."""

from typing import Any

import orjson

MAX_OUTPUT = 256 * 1024


class Capture:
    """What `output` needs of standard output, as bytes: the beginning, or for the last line the end; bounded."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._data = bytearray()
        self._over = False

    def take(self, data: bytes) -> None:
        """Take in what the program printed."""
        if self._output == "none":
            return
        self._data += data
        if self._output == "last_line_json":
            del self._data[: -2 * MAX_OUTPUT]
        elif len(self._data) > MAX_OUTPUT:
            del self._data[MAX_OUTPUT:]
            self._over = True

    def value(self) -> Any:
        """Return the output; ValueError says why there is none."""
        if self._output == "none":
            return None
        if self._over:
            raise ValueError(f"it printed more than the {MAX_OUTPUT // 1024} KiB that an output holds")
        data = bytes(self._data)
        if self._output == "text":
            return data.decode("utf-8", "replace")
        if self._output == "last_line_json":
            data = data.rstrip().rpartition(b"\n")[2]
            if len(data) > MAX_OUTPUT:
                raise ValueError(f"its last line is longer than the {MAX_OUTPUT // 1024} KiB that an output holds")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            what = "its last line" if self._output == "last_line_json" else "what it printed"
            raise ValueError(f"{what} is not JSON ({error})") from error
