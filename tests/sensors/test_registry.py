"""Kinds from the explicit list, from plug-in files and from installed distributions, through one door."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from sensors.kind import SensorKind
from sensors.registry import PluginError, SensorRegistry, builtin_kinds, load_registry

BUILTIN = ("webhook", "files", "s3", "adls", "rabbitmq", "sqs", "azure-queue")
_PLUGIN = """
from typing import Any
from sensors.authoring import Emits, SensorContext, SensorKind, SensorOptions

class Options(SensorOptions):
    where: str

def build(options: Options, context: SensorContext) -> Any:
    return None

{api}
sensors = [SensorKind("{name}", "help", Options, build, Emits({{"t": "x"}}, "", "", "", "", {{}}){extra})]
"""


def _plugin(folder: Path, name: str = "mine", api: str = "api = 1", extra: str = "", file: str = "plug.py") -> Path:
    path = folder / file
    path.write_text(_PLUGIN.format(name=name, api=api, extra=extra))
    return path


def test_built_in_kinds_are_there() -> None:
    """Without plug-ins the registry holds exactly the explicit list."""
    registry = load_registry((), installed=())

    assert registry.names() == BUILTIN
    assert tuple(registry.values()) == builtin_kinds()
    assert len(registry) == len(BUILTIN)
    assert "files" in registry
    assert registry.get("files") is builtin_kinds()[1]
    assert registry.get("nope") is None
    assert len(SensorRegistry()) == 0


def test_a_plugin_file_adds_its_kinds(tmp_path: Path) -> None:
    """A file with `api = 1` and `sensors` adds kinds whose options validate; loading again gives the same."""
    path = _plugin(tmp_path)
    kind = load_registry([path], installed=()).get("mine")

    assert kind is not None
    assert kind.options.model_validate({"where": "x"}).model_dump()["where"] == "x"
    assert load_registry([path], installed=()).get("mine") is kind


def test_two_plugins_may_have_the_same_file_name(tmp_path: Path) -> None:
    """Files of one name in different folders do not shadow each other."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [_plugin(tmp_path / "a", "one"), _plugin(tmp_path / "b", "two")]

    assert load_registry(paths, installed=()).names() == (*BUILTIN, "one", "two")


@pytest.mark.parametrize(
    ("name", "api", "extra", "sentence"),
    [
        ("files", "api = 1", "", "declared twice"),
        ("mine", "api = 2", "", "made for api 2; this service offers api 1"),
        ("mine", "", "", "declares no api"),
        ("mine", "api = 1", ", api=7", "made for api 7"),
        ("mine", "api = 1; raise RuntimeError('boom')", "", "RuntimeError: boom"),
    ],
)
def test_a_plugin_that_does_not_fit_stops_the_start(
    tmp_path: Path, name: str, api: str, extra: str, sentence: str
) -> None:
    """Duplicate names, other apis and errors are refused with a sentence that says which."""
    with pytest.raises(PluginError, match=sentence):
        load_registry([_plugin(tmp_path, name, api, extra)], installed=())


def test_a_broken_plugin_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that failed to load can be corrected and loaded."""
    path = _plugin(tmp_path, api="api = 1; raise RuntimeError('boom')")
    before = set(sys.modules)
    with pytest.raises(PluginError):
        load_registry([path], installed=())
    assert set(sys.modules) - before == set()
    _plugin(tmp_path)
    assert "mine" in load_registry([path], installed=())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("api = 1", "declares nothing"),
        ("api = 1\nsensors = 3", "must be a list"),
        ("api = 1\nsensors = [3]", "is no SensorKind"),
    ],
)
def test_a_plugin_must_declare_kinds(tmp_path: Path, text: str, sentence: str) -> None:
    """A file without kinds, or with something else, is refused."""
    path = tmp_path / "empty.py"
    path.write_text(text)
    with pytest.raises(PluginError, match=sentence):
        load_registry([path], installed=())


def test_a_plugin_of_another_stage_is_no_error(tmp_path: Path) -> None:
    """A file that declares engines only adds no sensor kind."""
    path = tmp_path / "engines.py"
    path.write_text("api = 1\nengines = []")
    assert load_registry([path], installed=()).names() == BUILTIN


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    """A path that is not there says what to correct."""
    with pytest.raises(PluginError, match=r"nope\.py is not there.*service\.plugins"):
        load_registry([tmp_path / "nope.py"], installed=())


def test_options_must_be_ours(tmp_path: Path) -> None:
    """A kind whose options do not extend SensorOptions is refused."""
    files = builtin_kinds()[1]
    odd = SensorKind("odd", "h", dict, files.build, files.emits)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="must extend"):
        SensorRegistry([odd])


def test_installed_distributions_add_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point may name a kind or a module that declares kinds; one that cannot be loaded is named."""
    module = ModuleType("some_distribution")
    files = builtin_kinds()[1]
    kind = SensorKind("theirs", "h", files.options, files.build, files.emits)
    other = SensorKind("others", "h", files.options, files.build, files.emits)
    vars(module).update(KIND=kind, api=1, sensors=[other])
    monkeypatch.setitem(sys.modules, "some_distribution", module)
    group = "tidegate.sensors"
    entries = [EntryPoint("a", "some_distribution:KIND", group), EntryPoint("b", "some_distribution", group)]

    assert load_registry((), installed=entries).names() == (*BUILTIN, "theirs", "others")
    with pytest.raises(PluginError, match="c = not_there:X"):
        load_registry((), installed=[EntryPoint("c", "not_there:X", group)])


def test_a_kind_that_nobody_asks_for_is_not_imported() -> None:
    """A start pays for the kinds that it uses: neither the others nor their libraries are imported."""
    script = (
        "import sys; from sensors.registry import load_registry; registry = load_registry((), installed=());"
        " assert registry.get('webhook').name == 'webhook'; assert 's3' in registry;"
        " wanted = ('sensors.kinds.', 'aiobotocore', 'azure', 'polars');"
        " print([name for name in sys.modules if name.startswith(wanted)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "['sensors.kinds.webhook']"
