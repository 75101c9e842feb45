"""Secret values never reach a log: whoever resolves a secret registers it here, every formatted line passes through.

A value is found as it is and as it looks percent-encoded, JSON-escaped or in base64 (as `Authorization: Basic` and
tokens carry it). Values shorter than `MIN_SECRET` are not searched for: they would blank out ordinary words.
"""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MIN_SECRET = 5
MASK = "***"


class Redactor:
    """Replaces registered secret values in text. Registering is rare, masking is for every line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.register(*secrets)

    def register(self, *secrets: str) -> None:
        """Never show these values again."""
        for secret in secrets:
            if len(secret) >= MIN_SECRET:
                self._forms.update(_forms(secret))
            for line in secret.splitlines():  # a key in PEM is logged line by line
                if len(line.strip()) >= 16 and line != secret:
                    self._forms.add(line.strip())
        if self._forms:
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def mask(self, text: str) -> str:
        """Return the text without any registered value."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _forms(secret: str) -> set[str]:
    """Return how a value may look in text."""
    raw = secret.encode(errors="replace")
    forms = {secret, quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    for shift in range(3):  # base64 of a longer text holds the value at one of three alignments
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        start = (0, 2, 3)[shift]
        middle = encoded[start : len(encoded) - 4] if len(encoded) - 4 - start >= 12 else ""
        forms |= {middle, middle.replace("+", "-").replace("/", "_")}
    forms.add(base64.b64encode(raw).decode())
    return {form for form in forms if len(form) >= MIN_SECRET}
