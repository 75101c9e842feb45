"""Activations: the values of one evaluation's variables, fetched when an expression first asks for them.

One activation is shared by all expressions over one event: content is parsed once and converted for the CEL runtime
once. The runtime stops reading text at NUL and cannot take lone surrogates, so no such text gets past here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from triggers.errors import EvaluationError, Unreadable

if TYPE_CHECKING:
    from cel_expr_python import cel

_NONE: frozenset[str] = frozenset()


class Activation:
    """Values by variable name. `load` fetches what `values` lacks (KeyError: no such value).

    `likely` are names that some expression will probably ask for: they are bound together with the first one, since
    binding again costs a second conversion. A likely value that cannot be had is an error only for who really asks.
    Loaded values must be safe text already; given ones are checked here when they are first read.
    """

    __slots__ = ("_bound", "_extents", "_likely", "_load", "_native", "_safe", "_values")

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        load: Callable[[str], Any] | None = None,
        likely: frozenset[str] = _NONE,
    ) -> None:
        self._values: dict[str, Any] = dict(values) if values else {}
        self._safe: set[str] = set()
        self._load = load
        self._likely = likely
        self._bound = _NONE
        self._native: cel.Activation | None = None
        self._extents: dict[str, tuple[int, int]] = {}

    def extended(self, values: Mapping[str, Any]) -> "Activation":
        """Return an activation with more values; what this one has fetched is not fetched again."""
        more = Activation(None, self._load, self._likely)
        more._values = {**self._values, **values}
        more._safe = self._safe - values.keys()
        return more

    def value(self, name: str) -> Any:
        """Return one value, fetched and checked. Raises EvaluationError when there is none or it is hostile."""
        values = self._values
        if name in self._safe:
            return values[name]
        if name in values:
            values[name] = readable(values[name], name)
        else:
            if self._load is None:
                raise EvaluationError(f"{name} has no value here")
            try:
                values[name] = self._load(name)
            except KeyError:
                raise EvaluationError(f"{name} has no value here") from None
        self._safe.add(name)
        return values[name]

    def extent(self, name: str) -> tuple[int, int]:
        """Return how many elements the longest list or map of a value has, and how many characters its longest text."""
        if name not in self._extents:
            self._extents[name] = _extent(self.value(name))
        return self._extents[name]

    def bind(self, names: frozenset[str]) -> "cel.Activation":
        """Return the runtime's activation with at least these variables. Raises EvaluationError."""
        if self._native is not None and names <= self._bound:
            return self._native
        wanted = set(names)
        if self._native is None:
            for name in self._likely - names:
                try:
                    self.value(name)
                except Unreadable:
                    raise
                except EvaluationError:
                    continue
                wanted.add(name)
        bound = {name: self.value(name) for name in wanted | self._bound}
        self._native = _runtime().Activation(bound)
        self._bound = frozenset(bound)
        return self._native


def _extent(value: Any) -> tuple[int, int]:
    elements = characters = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            characters = max(characters, len(one))
        elif isinstance(one, list | dict):
            elements = max(elements, len(one))
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return elements, characters


@lru_cache(maxsize=1)
def _runtime() -> "cel.Env":
    from cel_expr_python import cel

    return cel.NewEnv(variables={})


def readable(value: Any, where: str = "the value") -> Any:
    """Return a JSON-like value ready for the CEL runtime: tuples become lists, nothing hostile passes.

    Raises Unreadable for NUL or lone surrogates in text and for NUL in bytes, EvaluationError for what CEL has no
    type for and for nesting beyond what Python can walk.
    """
    try:
        return _readable(value, where)
    except RecursionError:
        raise EvaluationError(f"{where} is nested too deeply for expressions") from None


def _readable(value: Any, where: str) -> Any:
    kind = value.__class__
    if kind is str:
        check_text(value, where)
        return value
    if kind is int:
        if not -(2**63) <= value < 2**64:
            raise EvaluationError(f"{where} holds the integer {value}, which is beyond 64 bits")
        return value
    if value is None or kind is float or kind is bool:
        return value
    if kind is dict:
        return {_readable(key, where): _readable(item, where) for key, item in value.items()}
    if kind is list:
        return [_readable(item, where) for item in value]
    if kind is bytes:
        if 0 in value:
            raise EvaluationError(f"{where} is binary (it holds NUL bytes): expressions cannot read it")
        return value
    if kind is datetime or kind is timedelta:
        return _well_known(value)
    for common, convert in _STANDS_FOR:
        if isinstance(value, common):
            return _readable(convert(value), where)
    raise EvaluationError(f"{where} holds a {kind.__name__}, for which expressions have no type")


_STANDS_FOR: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),  # also members of a StrEnum
    (int, int),
    (float, float),
    (Mapping, dict),
    (tuple, list),
    (list, list),
)


def _well_known(value: datetime | timedelta) -> Any:
    """Return the protobuf message of a moment or duration: the only form that the runtime takes inside other values."""
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    message = Timestamp() if isinstance(value, datetime) else Duration()
    if isinstance(value, datetime):
        message.FromDatetime(value)
    else:
        message.FromTimedelta(value)
    return message


def moment(at: int) -> Any:
    """Return UTC microseconds as the runtime's timestamp."""
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, micros = divmod(at, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def check_text(text: str, where: str) -> None:
    """Refuse text that the CEL runtime would cut or choke on. Raises Unreadable."""
    if "\0" in text:
        raise Unreadable(f"{where} holds a NUL character, which expressions cannot read")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unreadable(f"{where} holds half of a surrogate pair, which expressions cannot read") from None
