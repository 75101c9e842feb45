"""Which headers of a request become attributes of its event: all but secrets and the connection's own, within bounds.

In flow headers that a stranger chose (bytes read as Latin-1), out flows text that may be stored. Names that carry
secrets are never kept, whatever the configuration says.
"""

import re
from collections.abc import Mapping, Sequence

from sensors.event import storable_text

MAX_COUNT = 64
MAX_CHARS = 16 * 1024
CUT = "tidegate-headers-cut"
_LEARN = 1024  # names remembered; strangers choose them, so there is an end
_SECRET = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-hub-signature", "x-hub-signature-256"}
    | {"webhook-signature", "stripe-signature", "x-slack-signature", "x-gitlab-token", "x-amz-security-token"}
)
_SECRET_PART = re.compile(r"signature|token|secret|passw|api-?key|credential|hmac")
_CONNECTION = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "expect"}
    | {"accept", "accept-encoding", "accept-language", "traceparent", "tracestate", "baggage"}
)
_UNSAFE = re.compile("[\0\ud800-\udfff]")


def is_secret(name: str) -> bool:
    """Say whether a header or query parameter of this lower-case name is taken for a secret."""
    return name in _SECRET or _SECRET_PART.search(name) is not None


def safe_text(text: str) -> str:
    """Return text that may be stored: NUL and lone surrogates percent-escaped, all else as it is."""
    if text.isascii() and "\0" not in text:
        return text
    if storable_text(text):
        return text
    return _UNSAFE.sub(lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "surrogatepass")), text)


class HeaderPolicy:
    """Chooses and joins headers. `only` None keeps all but secrets; otherwise exactly those names, `x-my-*` included.

    `secret` names more headers that are never kept. Verdicts are remembered per name, up to a bound.
    """

    def __init__(self, only: Sequence[str] | None, secret: Sequence[str] = ()) -> None:
        self._names = None if only is None else frozenset(name.lower() for name in only if not name.endswith("*"))
        self._starts = tuple(name[:-1].lower() for name in only or () if name.endswith("*"))
        self._secret = frozenset(name.lower() for name in secret)
        self._verdicts: dict[str, bool] = {}

    def keeps(self, name: str) -> bool:
        """Say whether a header of this lower-case name is kept."""
        if name in self._secret or name in _SECRET:
            return False
        if self._names is None:
            return name not in _CONNECTION and _SECRET_PART.search(name) is None
        return name in self._names or (bool(self._starts) and name.startswith(self._starts))

    def attributes(self, headers: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return the kept headers. What is beyond 64 headers or 16 KiB is left out and counted in an attribute."""
        verdicts = self._verdicts
        kept: dict[str, str] = {}
        chars = cut = 0
        for name, values in headers.items():
            keep = verdicts.get(name)
            if keep is None:
                keep = self.keeps(name)
                if len(verdicts) < _LEARN:
                    verdicts[name] = keep
            if not keep:
                continue
            value = values[0] if len(values) == 1 else ", ".join(values)
            chars += len(name) + len(value)
            if chars > MAX_CHARS or len(kept) >= MAX_COUNT:
                cut += 1
                continue
            if not value.isascii() or "\0" in value:
                value = safe_text(_as_meant(value))
            kept[safe_text(name)] = value
        if cut:
            kept[CUT] = str(cut)
        return kept


def _as_meant(value: str) -> str:
    """Return what a sender wrote in UTF-8; text that is not stays as it is."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
