"""Small writes that operators ask for. Group-committed like all others."""

from collections.abc import Sequence

from tidegate.store.tx import Tx


class DropDeadLetters:
    """The write that deletes a dead letter by uid. Answers whether there was one."""

    name = "drop_dead_letters"

    def __call__(self, tx: Tx, items: Sequence[str]) -> Sequence[bool]:
        """Delete for all callers, one by one, so that each learns whether it was there."""
        return [tx.drop_dead_letters([uid]) > 0 for uid in items]
