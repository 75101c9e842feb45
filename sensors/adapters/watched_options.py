"""All options that the kinds on object storage have in common, in one model."""

from typing import Self

from pydantic import model_validator

from sensors.adapters.after_options import AfterOptions, check_destination
from sensors.adapters.completeness_options import CompletenessOptions
from sensors.adapters.content_options import ContentOptions


class WatchedOptions(AfterOptions, CompletenessOptions, ContentOptions):
    """What is watched, when it is complete, what it must hold, and what becomes of it afterwards."""

    @property
    def refused_to(self) -> str | None:
        """Return the template of where refused objects are moved, None when they stay where they are."""
        where = self.expect.on_violation.move if self.expect is not None else None
        if where is None:
            return None
        return where if "{" in where else f"{where.removeprefix('./').strip('/')}/{{key}}"

    @model_validator(mode="after")
    def _quarantine_leads_out(self) -> Self:
        if (to := self.refused_to) is not None:
            check_destination("expect.on_violation.move", to, self.prefix, self.pattern, self.ignore)
        return self
