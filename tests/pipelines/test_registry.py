from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pipelines.errors import DefinitionError
from pipelines.kind import EngineKind
from pipelines.registry import EngineRegistry, builtin_kinds, load_registry

PLUGIN = """
from pipelines.kind import EngineKind, EngineOptions
from pipelines.testing import InProcess

KIND = EngineKind({name!r}, "h", EngineOptions, lambda settings: InProcess(), example="", api={api})
engines = {engines}
"""


def write_plugin(folder: Path, name: str = "mine", api: int = 1, engines: str = "[KIND]") -> Path:
    path = folder / "my plugin.py"
    path.write_text(PLUGIN.format(name=name, api=api, engines=engines))
    return path


def test_every_built_in_kind_can_be_loaded_by_its_name() -> None:
    """The explicit list names kinds that exist and call themselves what they are listed as."""
    registry = load_registry(others=())

    assert list(registry) == list(builtin_kinds())
    assert [registry[name].name for name in registry] == list(builtin_kinds())


def test_plug_in_files_and_installed_kinds_come_through_the_same_door(tmp_path: Path) -> None:
    """Both stand beside the built-in ones; a file is imported once, however often it is named by registries."""
    path = write_plugin(tmp_path)
    installed = EntryPoint("http2", "pipelines.engines.http:KIND", "tidegate.engines")
    registry = load_registry([path], others=[installed])

    assert set(registry) == {*builtin_kinds(), "mine", "http2"}
    assert isinstance(registry["mine"], EngineKind)
    assert load_registry([path], others=())["mine"] is registry["mine"]
    with pytest.raises(DefinitionError, match="offered as 'http2' calls itself 'http'"):
        registry["http2"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"api": 2}, "made for api 2", id="other-api"),
        pytest.param({"name": "python"}, "which there is already", id="taken-name"),
        pytest.param({"name": "a b"}, "unusable name", id="name"),
        pytest.param({"engines": "[1]"}, "is no engine kind but int", id="no-kind"),
        pytest.param({"engines": "KIND"}, "is no list", id="no-list"),
        pytest.param({"engines": "1 / 0"}, "cannot be imported: ZeroDivisionError", id="raises"),
    ],
)
def test_a_plug_in_that_cannot_be_used_stops_the_start(tmp_path: Path, options: dict[str, object], said: str) -> None:
    """Nothing is skipped silently: the error names the file and the reason."""
    with pytest.raises(DefinitionError, match=said):
        load_registry([write_plugin(tmp_path, **options)], others=())  # type: ignore[arg-type]


def test_missing_files_and_unknown_names_are_told(tmp_path: Path) -> None:
    """A plug-in file that is not there, an entry point that does not import, a misspelt engine."""
    with pytest.raises(DefinitionError, match="no Python file that can be read"):
        load_registry([tmp_path / "none.py"], others=())
    broken = load_registry(others=[EntryPoint("x", "no.such.module:KIND", "tidegate.engines")])
    with pytest.raises(DefinitionError, match="cannot be imported"):
        broken["x"]
    with pytest.raises(DefinitionError) as caught:
        broken["htttp"]
    assert "'http'" in caught.value.hint
    assert len(EngineRegistry({})) == 0
    assert EngineRegistry({}).get("x") is None
