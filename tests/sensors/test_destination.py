"""Destinations of objects: what templates make, and which of them lead back into what is watched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sensors.adapters.after_options import AfterOptions, check_destination
from sensors.adapters.destination import compile_template, meet, watched_glob
from sensors.patterns import compile_pattern

DAY = 1_769_900_000_000_000  # 2026-01-31, 22:53 UTC


@pytest.mark.parametrize(
    ("text", "key", "captures", "wanted"),
    [
        pytest.param("archive/{key}", "in/a.csv", {}, "archive/in/a.csv", id="the whole key"),
        pytest.param("done/{name}", "in/a.csv", {}, "done/a.csv", id="the last segment"),
        pytest.param("done/{file}.old", "a.csv", {}, "done/a.csv.old", id="the last segment by its other name"),
        pytest.param("d/{day}/{name}", "x", {"day": "1", "name": "n"}, "d/1/n", id="captures before words"),
        pytest.param("a/{%Y/%m}/{%d}-{name}", "x", {}, "a/2026/01/31-x", id="dates in UTC"),
        pytest.param("a/{day}", "x", {}, "a/_", id="a capture that is not there"),
        pytest.param("a/{name}", "in/{name}", {}, "a/{name}", id="braces in the key stay"),
        pytest.param("fixed", "in/ü", {}, "fixed", id="no field"),
    ],
)
def test_what_a_template_makes(text: str, key: str, captures: dict[str, str], wanted: str) -> None:
    """Fields are filled once, from the object alone; what is filled in is not looked at again."""
    assert compile_template(text, {"day", *captures}).fill(key, captures, DAY) == wanted


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "without empty segments"),
        ("/a", "without empty segments"),
        ("a//{key}", "without empty segments"),
        ("a/", "without empty segments"),
        ("a/{", "lone brace"),
        ("a}/{key}", "lone brace"),
        ("a/{day}", "names {day}, which is not known; there are {key}, {name}, {file}, {customer}"),
        ("a/{}", "names {}, which is not known"),
        ("a\0b", "NUL"),
        ("x" * 1025, "1024 bytes"),
    ],
)
def test_broken_templates_are_refused(text: str, sentence: str) -> None:
    """A template that could make no key is refused with a sentence that says what would be right."""
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{").replace("}", r"\}")):
        compile_template(text, ["customer"])


INSIDE = [
    ("archive/{key}", "", None),
    ("in/done/{key}", "in/", None),
    ("in", "in", None),
    ("{key}", "in/", None),
    ("{name}", "", "*.csv"),
    ("archive/{key}", "", "**/*.csv"),
    ("archive/{name}", "", "archive/{name}"),
    ("in/{day}/old-{name}.csv", "in/", "in/{day}/{name}.csv"),
    ("in/{%Y-%m-%d}/{name}", "in/{%Y-%m-%d}/", None),
    ("in/x/{name}", "in/{%A}", None),
    ("{%A}/x", "Sunday", None),
    ("in/x.csv", "", "in/**/x.csv"),
    ("in/a/b/x.csv", "", "in/**/x.csv"),
    ("in/a/{name}", "", "in/**"),
]
OUTSIDE = [
    ("archive/{key}", "in/", None),
    ("archive/{key}", "", "in/*.csv"),
    ("archive/{key}", "", "*.csv"),
    ("{key}.done", "in/", "in/*.csv"),
    ("{name}.done", "", "*.csv"),
    ("in/{day}/{name}.old", "in/", "in/{day}/{name}.csv"),
    ("in/{day}/deep/{name}.csv", "in/", "in/{day}/{name}.csv"),
    ("{%Y}/archive/{name}", "{%Y}/in/", None),
    ("archive/{%Y-%m-%d}/{name}", "in/{%Y-%m-%d}/", None),
    ("in-archive/{key}", "in/", None),
]


@pytest.mark.parametrize(("to", "prefix", "pattern"), INSIDE)
def test_a_watched_destination_is_refused(to: str, prefix: str, pattern: str | None) -> None:
    """What could come back as an event is refused with a sentence that names the remedy."""
    with pytest.raises(ValueError, match=r"can name a key that this sensor watches .* choose a place outside"):
        check_destination("after.to", to, prefix, pattern, ())


@pytest.mark.parametrize(("to", "prefix", "pattern"), OUTSIDE)
def test_a_destination_outside_is_taken(to: str, prefix: str, pattern: str | None) -> None:
    """What can never be watched is taken, however close it lies."""
    assert check_destination("after.to", to, prefix, pattern, ()).text == to


def test_an_ignored_folder_is_outside() -> None:
    """A destination below a folder that `ignore` leaves out is taken, a file that is merely called so is not."""
    assert check_destination("after.to", "in/.done/{name}", "in/", None, (".*",)).folders == ["in", ".done"]
    with pytest.raises(ValueError, match="watches"):
        check_destination("after.to", "in/done/{name}", "in/", None, (".*",))
    with pytest.raises(ValueError, match="watches"):
        check_destination("after.to", "in/.{name}/x", "in/", None, (".*",))


_TEXT = st.text("ab/.0", min_size=1, max_size=6)
_PIECES = st.sampled_from(["a", "b", "0", ".", "/", "{x}", "{y}", "*"])


@given(
    st.lists(_PIECES, min_size=1, max_size=7),
    st.lists(st.sampled_from(["a", "b", "/", ".", "{key}"]), max_size=5),
    _TEXT,
)
def test_no_watched_key_is_ever_a_destination(pieces: list[str], parts: list[str], key: str) -> None:
    """Whenever a template makes a key that the pattern matches, the two were said to meet."""
    try:
        pattern = compile_pattern("".join(pieces))
        template = compile_template("".join(parts), pattern.names)
    except ValueError:
        return
    made = template.fill(key, pattern.match(key) or {}, DAY)
    if pattern.match(made) is not None:
        assert meet([template.glob(pattern.names), *watched_glob("", pattern)])


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ({"do": "move"}, "needs `to`"),
        ({"do": "copy", "to": "in/{key}"}, "watches"),
        ({"do": "delete", "to": "x"}, "leave `to` out"),
        ({"do": "tag"}, "needs `tags`"),
        ({"do": "move", "to": "a/{key}", "tags": {"a": "b"}}, "nothing else has them"),
        ({"do": "tag", "tags": {str(n): "" for n in range(11)}}, "at most 10"),
        ({"do": "tag", "tags": {"": "x"}}, "1 to 128"),
        ({"do": "tag", "tags": {"a": "x" * 257}}, "up to 256"),
        ({"do": "tag", "tags": {"a": "\n"}}, "printable"),
        ({"do": "burn"}, "'move', 'copy', 'tag' or 'delete'"),
        ({"do": "delete", "when": "now"}, "'accepted' or 'succeeded'"),
        ({"do": "delete", "also": 1}, "Extra inputs"),
    ],
)
def test_options_that_make_no_sense_are_refused(after: dict[str, object], sentence: str) -> None:
    """Each combination that could do nothing, or harm, is refused with what would be right."""
    with pytest.raises(ValidationError, match=sentence):
        AfterOptions.model_validate({"start": "now", "prefix": "in/", "after": after})


def test_sensible_options() -> None:
    """Nothing is done unless it is said; by default once all runs succeeded."""
    none = AfterOptions.model_validate({"start": "now"})
    moved = AfterOptions.model_validate({"start": "now", "prefix": "in/", "after": {"do": "move", "to": "a/{key}"}})

    assert none.after is None
    assert moved.after is not None
    assert (moved.after.do, moved.after.when) == ("move", "succeeded")
