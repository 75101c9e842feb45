"""Cross-origin requests of browsers, for endpoints that allow them. Pure.

Without it no header is set, and browsers keep the pages of other sites from reading, and from sending anything but the
simplest requests. It protects nobody from anything but browsers: who may post is the verifier's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensors.batch import Reply

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Cors:
    """Which sites' pages may post, with which headers; browsers may keep the answer for `max_age` seconds."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    max_age: int

    def allowed(self, headers: Sequence[tuple[bytes, bytes]]) -> Pairs:
        """Return the headers that let a browser read the answer; only `vary` for a site that may not."""
        given = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        origin = given[0] if len(given) == 1 else ""
        if "*" in self.origins:
            return ((b"access-control-allow-origin", b"*"),)
        if origin and origin in self.origins:
            return ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin"))
        return ((b"vary", b"origin"),)

    def preflight(self, headers: Sequence[tuple[bytes, bytes]]) -> Reply | None:
        """Return the answer to a browser that asks first; None when this is no such question."""
        if not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        answer: Mapping[str, str] = {
            "access-control-allow-methods": ", ".join(self.methods),
            "access-control-allow-headers": ", ".join(self.headers),
            "access-control-max-age": str(self.max_age),
        }
        may = any(name == b"access-control-allow-origin" for name, _ in self.allowed(headers))
        return Reply(204, headers=answer if may else {})
