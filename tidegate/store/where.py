"""The conditions of a query, gathered one by one: what is not asked for is no condition."""

from typing import Any


class Where:
    """Collects conditions with their values."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition unless its (first) value is None."""
        if values and values[0] is None:
            return
        self.conditions.append(condition)
        self.values.extend(values)

    @property
    def sql(self) -> str:
        """Return the conditions as a WHERE clause."""
        return f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""
