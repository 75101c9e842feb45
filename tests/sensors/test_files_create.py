"""`create: true` of the files sensor."""

from pathlib import Path

import pytest

from sensors.errors import NotConnected
from sensors.kind import SensorContext
from sensors.kinds.files import KIND
from sensors.testing import FakeInbox, VirtualClock


@pytest.mark.parametrize("create", [True, False])
async def test_a_missing_folder_is_made_only_when_asked_for(create: bool, tmp_path: Path) -> None:
    """A folder that may be unmounted must not be replaced by an empty one, so making it has to be asked for."""
    options = KIND.options.model_validate({"path": "in/box", "start": "now", "create": create})
    sensor = KIND.build(options, SensorContext("drop", "test", VirtualClock(), tmp_path))
    inbox = FakeInbox()

    if create:
        await sensor.connect({}, inbox.lookup("drop"), None)  # type: ignore[union-attr, arg-type]
    else:
        with pytest.raises(NotConnected, match="create"):
            await sensor.connect({}, inbox.lookup("drop"), None)  # type: ignore[union-attr, arg-type]
    await sensor.close()  # type: ignore[union-attr]

    assert (tmp_path / "in" / "box").is_dir() is create
