import datetime as dt
from typing import Any

import pytest

from pipelines.authoring import CheckSpec, Context, Retries, Task, between, not_null, pipeline, row_count, task, unique
from pipelines.describe import describe
from pipelines.engines.dask import DaskOptions
from pipelines.engines.python import PythonOptions
from pipelines.errors import DefinitionError
from pipelines.pipeline import Param, from_json, to_json
from tests.pipelines.authored import shop

MODULE = "tests.pipelines.authored.shop"


def test_the_task_at_the_end_names_the_whole_pipeline() -> None:
    """Ancestors come by parameter names, in order; what is no task is a typed parameter of the run."""
    definition = describe(shop.orders, sys_path=["/srv"])

    assert definition.name == "orders"
    assert [(one.name, one.needs) for one in definition.tasks] == [
        ("extract", ()),
        ("enrich", ("extract",)),
        ("orders", ("enrich",)),
    ]
    assert definition.params == {
        "path": Param(type="str", required=True),
        "day": Param(type="date", default="2026-01-31"),
        "factor": Param(type="int"),
    }
    assert definition.task("extract").options["function"] == f"{MODULE}:extract"
    assert definition.task("extract").options["sys_path"] == ["/srv"]
    assert (definition.task("extract").timeout, definition.task("extract").retries.attempts) == (600.0, 2)


def test_a_named_pipeline_takes_what_its_tasks_need() -> None:
    """`pipeline(...)` adds ancestors by itself; settings and explicit needs come along; the text reads back equal."""
    definition = describe(shop.shop)

    assert {one.name for one in definition.tasks} == {"extract", "enrich", "orders", "clean_up"}
    assert definition.task("clean_up").needs == ("orders",)
    assert definition.task("clean_up").upstream == "all_done"
    assert definition.task("enrich").on_failure == "continue"
    assert (definition.concurrency, definition.start_within, tuple(definition.tags)) == (2, 60.0, ("demo",))
    assert definition.task("orders").outputs == ("duckdb://shop.duckdb/main.orders",)
    assert [check["kind"] for check in definition.task("orders").options["checks"]] == [
        "row_count",
        "between",
        "columns_match_last",
        "not_null",
        "unique",
    ]
    assert to_json(from_json(to_json(definition))) == to_json(definition)


def test_a_task_is_still_its_function() -> None:
    """Called directly, as in a unit test, it does what the function does."""
    assert shop.extract("abc") == [3, 31]
    assert shop.extract.__doc__ == "Make rows."


def make_task(function: Any, **settings: Any) -> Task[..., Any]:
    """Make a task of a function as if it stood at the top of its module."""
    function.__qualname__ = function.__name__
    made: Task[..., Any] = task(**settings)(function)
    return made


def takes_table(extrct: bytes) -> None: ...
def takes_all(*args: int) -> None: ...
def wants_text(x: str) -> None: ...
def wants_number(x: int) -> None: ...
def wants_one(x: int = 1) -> None: ...
def wants_two(x: int = 2) -> None: ...
def wrong_default(x: int = "a") -> None: ...  # type: ignore[assignment]  # the mistake under test
def lonely() -> None: ...


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        pytest.param(
            [make_task(takes_table)], "parameter 'extrct' of task 'takes_table' is neither a task", id="neither"
        ),
        pytest.param([make_task(takes_all)], "cannot be given by name", id="star-args"),
        pytest.param([make_task(wants_text), make_task(wants_number)], "is int in task", id="two-types"),
        pytest.param([make_task(wants_one), make_task(wants_two)], "defaults to 2 in task", id="two-defaults"),
        pytest.param([make_task(wrong_default)], "default of task 'wrong_default' does not fit", id="default"),
        pytest.param([make_task(lonely, needs=["nobody"])], "needs 'nobody', which is not a task", id="unknown-need"),
        pytest.param([make_task(lonely), make_task(lonely)], "two tasks are named 'lonely'", id="same-name"),
        pytest.param([make_task(lonely, upstream="all")], "unknown upstream rule 'all'", id="rule"),
        pytest.param([], "has no tasks", id="empty"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused_in_words(tasks: list[Task[..., Any]], said: str) -> None:
    """Each mistake is told with the name of the task and of the parameter."""
    with pytest.raises(DefinitionError, match=said):
        describe(pipeline("p", tasks))


def test_a_function_inside_a_function_is_refused() -> None:
    """Worker processes could not import it."""

    @task
    def inner() -> None: ...

    with pytest.raises(DefinitionError, match="stands inside a function"):
        describe(inner)


def nullable(a: dt.datetime | None, b: "list[str]", c: "dict[str, int]", d: Any, e: object = None) -> None: ...


def test_annotations_become_types() -> None:
    """Unions with None are optional, generics count as their origin, annotations in quotes are read."""
    assert describe(make_task(nullable)).params == {
        "a": Param(type="datetime"),
        "b": Param(type="list", required=True),
        "c": Param(type="map", required=True),
        "d": Param(type="any", required=True),
        "e": Param(type="any"),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(row_count, id="nothing"),
        pytest.param(lambda: row_count(max_drop=2), id="share"),
        pytest.param(lambda: between("x"), id="no-bounds"),
        pytest.param(not_null, id="no-columns"),
        pytest.param(lambda: unique("x", severity="bad"), id="severity"),  # type: ignore[arg-type]
        pytest.param(lambda: task(timeout="10 parsecs"), id="timeout"),
        pytest.param(lambda: task(retries=True), id="retries"),
        pytest.param(lambda: task(retries={"atempts": 1}), id="retries-key"),
        pytest.param(lambda: task(checks=["row_count"]), id="check"),  # type: ignore[list-item]
        pytest.param(lambda: task(int), id="class"),
        pytest.param(lambda: task(on="moon"), id="place"),
        pytest.param(lambda: task(memory="much"), id="memory"),
        pytest.param(lambda: task(in_loop=True)(lonely), id="in-loop-not-async"),
        pytest.param(lambda: task(in_loop=True, on="dask"), id="in-loop-elsewhere"),
        pytest.param(lambda: pipeline("p", [], on="dask:"), id="pipeline-place"),
        pytest.param(lambda: pipeline("p", [len]), id="no-task"),  # type: ignore[list-item]
    ],
)
def test_settings_that_cannot_be_are_refused_where_they_are_written(wrong: Any) -> None:
    """The author sees the mistake at the line that makes it."""
    with pytest.raises(DefinitionError):
        wrong()


def test_checks_and_retries_are_plain_data() -> None:
    """They hold only what was said."""
    assert row_count(min=1) == CheckSpec("row_count", {"min": 1}, "fail")
    assert between("x", max=0, severity="warn") == CheckSpec("between", {"column": "x", "max": 0}, "warn")
    assert task(retries={"attempts": 2, "backoff": "5s"})(lonely).settings.retries == Retries(attempts=2, backoff=5.0)


def takes_context(n: int, ctx: Context) -> int:
    return n + len(ctx.events)


def takes_context_only(context: Context) -> str:
    return context.run


async def waits(n: int) -> int:
    return n


def test_the_context_is_no_parameter_of_the_run() -> None:
    """By annotation or by name; the events come along only for a function that names them, or is said to need them."""
    definition = describe(pipeline("p", [make_task(takes_context), make_task(takes_context_only)]))
    said = describe(make_task(takes_context_only, events=True))

    assert definition.params == {"n": Param(type="int", required=True)}
    assert definition.task("takes_context").options["events"] == "${{ events }}"
    assert "events" not in definition.task("takes_context_only").options
    assert said.task("takes_context_only").options["events"] == "${{ events }}"


@pytest.mark.parametrize(
    ("on", "options"),
    [
        pytest.param("dask", {}, id="dask"),
        pytest.param("dask:big", {"connection": "big"}, id="connection"),
        pytest.param("tcp://host:8786", {"scheduler": "tcp://host:8786"}, id="address"),
    ],
)
def test_one_word_says_where_tasks_run(on: str, options: dict[str, str]) -> None:
    """For a task, or for all tasks of a pipeline that do not say so themselves; a task in the loop stays there."""
    own = describe(make_task(lonely, on=on, memory="1GiB")).task("lonely")
    whole = describe(
        pipeline(
            "p", [make_task(lonely), make_task(waits, in_loop=True), make_task(takes_all_here, on="python")], on=on
        )
    )

    assert own.engine == whole.task("lonely").engine == "dask"
    assert {name: own.options[name] for name in options} == options
    assert own.options["memory"] == 1 << 30
    assert (whole.task("waits").engine, whole.task("waits").options["in_loop"]) == ("python", True)
    assert whole.task("takes_all_here").engine == "python"
    DaskOptions.model_validate(own.options)
    PythonOptions.model_validate(whole.task("waits").options)


def takes_all_here() -> None: ...
