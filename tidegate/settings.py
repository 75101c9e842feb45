"""Small named values in the store: what operators said and a restart must remember."""

from collections.abc import Sequence

from tidegate.store.tx import Tx

PAUSED_SENSOR = "paused/sensor/"
PAUSED_TRIGGER = "paused/trigger/"
CONFIG = "config/"


class PutSettings:
    """Keeps or erases (None) values by name."""

    name = "put_settings"

    def __call__(self, tx: Tx, items: Sequence[tuple[str, str | None]]) -> Sequence[None]:
        """Write all."""
        for name, value in items:
            tx.put_setting(name, value)
        return [None] * len(items)
