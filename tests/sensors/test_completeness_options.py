"""The options of completeness: what they mean, and which combinations are refused with a sentence."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sensors.adapters.completeness import listed_prefix, make_completeness
from sensors.adapters.completeness_options import CompletenessOptions
from sensors.adapters.file_gate import FileGate
from sensors.adapters.manifest import Manifests
from sensors.adapters.manifest_gate import ManifestGate
from sensors.adapters.marker import FolderMarker
from sensors.adapters.marks import Marks, folder_captures
from sensors.adapters.object_steps import Completeness
from sensors.adapters.settled import Settled
from sensors.kind import SensorContext
from sensors.patterns import compile_pattern
from sensors.testing import VirtualClock
from tests.support.completing import Completing, field_of, options
from tests.support.object_source import MemoryObjects

PATTERN = "orders/dt={day}/{name}.csv"
MANIFEST = {"name": "orders/{day}.json", "files": "body"}


def _made(compile: Any = field_of, **given: Any) -> Completeness | None:
    model = options(**given)
    clock = VirtualClock()
    context = SensorContext("s", "t", clock, Path(), {}, compile)
    pattern = compile_pattern(model.pattern) if model.pattern else None
    return make_completeness(model, MemoryObjects(clock.now), context, pattern, lambda _: True)


@pytest.mark.parametrize(
    ("given", "step"),
    [
        ({}, None),
        ({"settle": 0}, None),
        ({"settle": "5s"}, Settled),
        ({"settle": {"polls": 3}}, Settled),
        ({"marker": "_SUCCESS"}, FolderMarker),
        ({"marker": "_SUCCESS", "emit": "file"}, FileGate),
        ({"marker": "{file}.done"}, FileGate),
        ({"pattern": PATTERN, "marker": "{name}.done", "emit": "file"}, FileGate),
        ({"manifest": MANIFEST}, Manifests),
        ({"pattern": PATTERN, "manifest": MANIFEST, "emit": "file"}, ManifestGate),
    ],
)
def test_options_choose_the_step(given: dict[str, Any], step: type | None) -> None:
    """By default objects count at once; each option asks for its own step."""
    made = _made(**given)
    assert made is None if step is None else isinstance(made, step)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"settle": "5s", "marker": "_SUCCESS"}, "`marker` and `settle` both say"),
        ({"settle": {"polls": 2}, "manifest": MANIFEST}, "`manifest` and `settle` both say"),
        ({"marker": "_SUCCESS", "manifest": MANIFEST}, "`marker` and `manifest` both say"),
        ({"emit": "file"}, "`emit` needs a `marker` or a `manifest`"),
        ({"emit": "set", "settle": "5s"}, "`emit` needs a `marker` or a `manifest`"),
        ({"pattern": PATTERN, "marker": "{name}.done", "emit": "set"}, "belongs to single files"),
        ({"marker": "{name}.done"}, "there is no pattern with captures|it has {file}"),
        ({"pattern": PATTERN, "marker": "{month}.done"}, "it has {day}, {file}, {name}"),
        ({"pattern": PATTERN, "marker": "{name}*.done"}, r"cannot have a \*"),
        ({"marker": "{file}"}, "every file would be a marker"),
        ({"pattern": "in/{name}.csv", "marker": "{name}.csv"}, "every file would be a marker"),
        ({"pattern": PATTERN, "marker": "{day}{name}"}, "needs text between"),
        ({"pattern": PATTERN, "marker": "/{name}.done"}, "must be a relative path"),
        ({"marker": "flags/_SUCCESS"}, "must be the name of an object"),
        ({"marker": "*_SUCCESS"}, "must be the name of an object"),
        ({"marker": ""}, "at least 1 character"),
        ({"settle": {"polls": 0}}, "greater than or equal to 1"),
        ({"settle": {"scans": 2}}, "Extra inputs|Field required"),
        ({"settle": "soon"}, "a duration such as"),
        ({"settle": 5}, "has no unit"),
        ({"manifest": {"name": "a{b"}}, "lone"),
        ({"manifest": {"name": ""}}, "relative path"),
        ({"manifest": {**MANIFEST, "within": 0}}, "greater than 0"),
        ({"manifest": {**MANIFEST, "base": "folder"}}, "'manifest' or 'bucket'"),
        ({"manifest": {**MANIFEST, "path": "x"}}, "Extra inputs"),
        ({"manifest": MANIFEST, "emit": "file"}, "there is no pattern with captures"),
        ({"pattern": PATTERN, "manifest": {"name": "orders/*.json"}, "emit": "file"}, r"cannot have a \*"),
        ({"pattern": PATTERN, "manifest": {"name": "orders/{month}.json"}, "emit": "file"}, "it has {day}, {name}"),
        ({"prefix": "in/", "manifest": MANIFEST}, "lies outside of `prefix` 'in/'"),
        ({"prefix": "in/{%Y}/", "pattern": "in/{y}/{name}", "marker": "out/{name}.ok"}, "lies outside of `prefix`"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    """The sentence says what is wrong and what would be right."""
    with pytest.raises(ValidationError, match=words):
        options(**given)


def test_versions_are_not_waited_for() -> None:
    """A kind that tells of every version cannot wait for the last."""

    class Versioned(CompletenessOptions):
        versions: bool = False

    with pytest.raises(ValidationError, match="leave it or `marker` out"):
        Versioned.model_validate({"start": "now", "versions": True, "marker": "_SUCCESS"})
    assert Versioned.model_validate({"start": "now", "versions": True}).versions


def test_errors_of_settle_are_told_once() -> None:
    """A union with a form for times and one for polls complains about the form that was written."""
    with pytest.raises(ValidationError) as caught:
        options(settle="soon")
    assert [error["loc"] for error in caught.value.errors()] == [("settle", "time")]


def test_the_options_have_a_schema_and_come_back_from_json() -> None:
    """Editors see both forms of settle, and a dumped model is read again."""
    schema = CompletenessOptions.model_json_schema()
    assert {"settle", "marker", "manifest", "emit"} <= set(schema["properties"])
    for settle in ("30s", {"polls": 2}):
        model = options(settle=settle)
        again = CompletenessOptions.model_validate_json(model.model_dump_json())
        assert again.settle == model.settle


def test_an_expression_that_is_none_is_refused_when_the_sensor_is_made() -> None:
    """The compiler's own sentence is passed on; without a compiler there are no expressions."""

    def broken(text: str, names: tuple[str, ...]) -> Any:
        raise ValueError(f"{text} is no expression over {names}")

    with pytest.raises(ValueError, match="body is no expression over"):
        _made(broken, manifest=MANIFEST)
    with pytest.raises(ValueError, match="not offered"):
        _made(None, manifest=MANIFEST)
    assert isinstance(_made(None, manifest={"name": "m.txt"}), Manifests)


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ({}, ""),
        ({"pattern": PATTERN}, "orders/dt="),
        ({"pattern": PATTERN, "marker": "_SUCCESS"}, "orders/"),
        ({"pattern": PATTERN, "marker": "{name}.done"}, "orders/"),
        ({"pattern": PATTERN, "marker": "flags/{name}"}, ""),
        ({"pattern": PATTERN, "marker": "orders/dt={day}/x"}, "orders/dt="),
        ({"pattern": PATTERN, "manifest": MANIFEST}, "orders/"),
        ({"manifest": MANIFEST}, ""),
    ],
)
def test_a_listing_is_not_narrower_than_markers_need(given: dict[str, Any], prefix: str) -> None:
    """The literal start of files and markers together."""
    assert listed_prefix(options(**given)) == prefix


def test_a_capture_twice_in_a_template_is_the_same_text() -> None:
    """A key in which they differ is no marker."""
    marks = Marks("m/{day}/{day}.json", None, (), above=True)
    assert marks.match("m/1/1.json") == {"day": "1"}
    assert marks.match("m/1/2.json") is None
    assert marks.match("m/1/.json") is None
    assert marks.match("") is None


def test_files_know_their_marks_nearest_first() -> None:
    """Folders above count only as far as the pattern reaches, and only for what completes folders."""
    pattern = compile_pattern(PATTERN)
    above = Marks("_SUCCESS", pattern, (), above=True)
    assert above.of_file("orders/dt=1/a.csv") == ["orders/dt=1/_SUCCESS", "orders/_SUCCESS"]
    beside = Marks("{name}.{file}.done", pattern, (), above=False)
    assert beside.of_file("orders/dt=1/a.csv") == ["orders/dt=1/a.a.csv.done"]
    assert Marks("ok/{day}", pattern, (), above=False).of_file("orders/dt=1/a.csv") == ["ok/1"]


@pytest.mark.parametrize(
    ("pattern", "folder", "captures"),
    [
        ("a/{x}/{y}/f", "a/1/2/", {"x": "1", "y": "2"}),
        ("a/{x}/{y}/f", "a/1/", {"x": "1"}),
        ("a/{x}/**/f", "a/1/2/3/", {"x": "1"}),
        ("**/{x}", "a/b/", {}),
        ("a/{x}/f", "b/1/", {}),
        ("a/f", "", {}),
    ],
)
def test_a_folder_has_the_captures_of_its_depth(pattern: str, folder: str, captures: dict[str, str]) -> None:
    """What stands in the folder's own segments is known without any file."""
    assert folder_captures(compile_pattern(pattern), folder) == captures


def test_a_mark_is_known_among_hostile_keys_quickly() -> None:
    """Keys of any form are answered without an error."""
    bench = Completing({"pattern": PATTERN, "marker": "{name}.done"})
    for key in ("", "/", "//", "x" * 1024, "orders/dt=1/" + "a" * 1000 + ".done", "\ud800", "orders/dt=/.done"):
        bench.step.marks(key)
    assert bench.step.marks("orders/dt=1/.x.done")
    assert not bench.step.marks("orders/.dt=1/x.done")
