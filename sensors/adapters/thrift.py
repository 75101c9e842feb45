"""Thrift's compact protocol, read with bounds: enough for the footer of a file from a stranger.

In flow bytes, out flow plain values: a struct is a dict by field id, a list a list. What is not wanted is walked past.
IndexError says that the bytes ended first, ValueError that they are no such thing or more than is allowed.
"""

from typing import Any, Final

_STOP: Final = 0
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)
_LEVELS: Final = 16  # of structs and lists within each other; a footer has about six
_MAX_STEPS: Final = 1_000_000


class ThriftReader:
    """Reads forward from the beginning of `data`; `at` is where it stands."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self._steps = 0

    def field(self, last: int) -> tuple[int, int]:
        """Return (id, type) of the next field of a struct; the type is 0 at its end. `last` is the id before."""
        head = self._byte()
        if head == _STOP:
            return 0, _STOP
        delta = head >> 4
        return (last + delta if delta else self.signed()), head & 0x0F

    def items(self) -> tuple[int, int]:
        """Return (number, type) of the items of a list that begins here."""
        head = self._byte()
        count = head >> 4
        return (self._number() if count == 15 else count), head & 0x0F

    def signed(self) -> int:
        """Return an integer of 16, 32 or 64 bits."""
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: int, levels: int = _LEVELS) -> Any:
        """Return the value of a type that begins here."""
        self._steps += 1
        if levels == 0 or self._steps > _MAX_STEPS:
            raise ValueError("too many parts")
        match kind:
            case _ if kind in (TRUE, FALSE):
                return kind == TRUE
            case _ if kind in (I16, I32, I64):
                return self.signed()
            case _ if kind == BYTE:
                return self._bytes(1)[0]
            case _ if kind == DOUBLE:
                return self._bytes(8)
            case _ if kind == BINARY:
                return self._bytes(self._number())
            case _ if kind in (LIST, SET):
                count, inner = self.items()
                inner = BYTE if inner in (TRUE, FALSE) else inner  # within a list a boolean takes a byte
                return [self.value(inner, levels - 1) for _ in range(count)]
            case _ if kind == STRUCT:
                return self._struct(levels)
            case _:
                raise ValueError("another form than the format's")

    def _struct(self, levels: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        id_ = 0
        while True:
            id_, kind = self.field(id_)
            if kind == _STOP:
                return found
            found[id_] = self.value(kind, levels - 1)

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise IndexError(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def _number(self) -> int:
        value = shift = 0
        while shift <= 63:
            part = self._byte()
            value |= (part & 0x7F) << shift
            if part < 0x80:
                return value
            shift += 7
        raise ValueError("a number without an end")
