"""Settings of the process."""

import pytest

from config.settings import DESCRIPTIONS, Settings, read_settings


def test_settings_come_from_the_environment() -> None:
    """Every variable is read; the token stays out of the repr."""
    settings = read_settings(
        {
            "TIDEGATE_URL": "https://gate.test/",
            "TIDEGATE_TOKEN": "tok",
            "TIDEGATE_LOG_FORMAT": "JSON",
            "TIDEGATE_LOG_LEVEL": "debug",
            "TIDEGATE_FAILPOINT": "ingest.before_commit",
        }
    )

    assert settings == Settings(
        url="https://gate.test", token="tok", log_format="json", log_level="debug", failpoint="ingest.before_commit"
    )
    assert "tok" not in repr(settings).replace("token", "")


def test_an_empty_environment_is_fine() -> None:
    """Nothing is required, and an empty variable counts as not set."""
    assert read_settings({}) == read_settings(dict.fromkeys(DESCRIPTIONS, "")) == Settings()


@pytest.mark.parametrize(
    ("name", "value"), [("TIDEGATE_URL", "gate:8080"), ("TIDEGATE_LOG_FORMAT", "xml"), ("TIDEGATE_LOG_LEVEL", "loud")]
)
def test_wrong_settings_name_the_variable(name: str, value: str) -> None:
    """A wrong value is an error that names the variable and what would be right."""
    with pytest.raises(ValueError, match=rf"{name} is .*; write "):
        read_settings({name: value})
