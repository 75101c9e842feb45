"""How pipelines are shaped in YAML: short forms, pools, conditions, partitions."""

from pathlib import Path

import orjson
import pytest

from config.load import load_config
from config.model import ServiceConfig
from pipelines.errors import DefinitionError
from pipelines.loading import load_pipeline
from pipelines.pipeline import PipelineDef, from_json, to_json
from pipelines.task import Retries, TaskDef

TEXT = """
pools: {db: 4, warehouse: {limit: 2, tag: heavy}}
pipelines:
  p:
    timeout: 1h
    tags: [heavy]
    tasks:
      a: {engine: command, argv: ["true"], partitions: [x, y], max_parallel: 1, require: 0.5, pool: db}
      b: {engine: command, argv: ["true"], per: a, retry_on: timeout, retries: 2, timeout_all: 10m}
      c: {engine: command, argv: ["true"], needs: [a, b], upstream: {at_least: 1}, when: "${{ params.full }}"}
  single: {engine: command, argv: ["true"], timeout: 5s, partitions: {no: 1, se: 2}}
"""


def _load(tmp_path: Path, text: str) -> ServiceConfig:
    file = tmp_path / "tidegate.yaml"
    file.write_text(text)
    return load_config([file], environ={})


def test_what_is_written_is_what_tasks_know(tmp_path: Path) -> None:
    """Short forms become one form; a task is in the pools that it names and those of its tags."""
    config = _load(tmp_path, TEXT)
    pipeline, single = config.pipelines["p"], config.pipelines["single"]
    a, b, c = pipeline.tasks

    assert config.pools == {"db": 4, "warehouse": 2}
    assert pipeline.timeout == 3600
    assert (a.partitions, a.max_parallel, a.require, a.pools) == (["x", "y"], 1, 0.5, ("db", "warehouse"))
    assert (b.per, b.needs, b.retry_on, b.timeout_all, b.pools) == ("a", ("a",), ("timeout",), 600, ("warehouse",))
    assert (c.upstream, c.when) == ("1_of", "${{ params.full }}")
    assert (single.timeout, single.tasks[0].timeout) == (None, 5)
    assert single.tasks[0].partitions == {"no": 1, "se": 2}


def test_a_definition_comes_back_from_its_text(tmp_path: Path) -> None:
    """Everything that shapes a task is part of the snapshot."""
    for pipeline in _load(tmp_path, TEXT).pipelines.values():
        assert from_json(to_json(pipeline)) == pipeline


def test_what_is_not_used_is_not_written() -> None:
    """The text and the name of a pipeline that uses nothing new are those of the version before."""
    text = to_json(PipelineDef(name="p", tasks=(TaskDef(name="a", engine="e", retries=Retries(attempts=1)),)))

    raw = orjson.loads(text)

    assert set(raw) == {"name", "tasks", "params", "concurrency", "max_tasks", "start_within", "finish_by", "tags"}
    common = {"name", "engine", "options", "needs", "upstream", "on_failure", "retries", "timeout", "outputs", "tags"}
    assert set(raw["tasks"][0]) == common


def test_a_circle_in_python_is_named(tmp_path: Path) -> None:
    """Tasks in Python that need each other are refused with the whole way round, as those in YAML are."""
    (tmp_path / "circle.py").write_text(
        "from pipelines.authoring import task\n"
        "@task(needs=['c'])\ndef a(): ...\n"
        "@task\ndef b(a): ...\n"
        "@task\ndef c(b): ...\n"
    )
    with pytest.raises(DefinitionError, match=r"in a circle: . needs . needs . needs ."):
        load_pipeline("circle:c", tmp_path)


def test_python_says_the_same(tmp_path: Path) -> None:
    """Decorators give what YAML gives; a task can stand for its output, an exception for its name."""
    (tmp_path / "shaped.py").write_text(
        "from pipelines.authoring import task\n"
        "@task\ndef listed() -> list: ...\n"
        "@task(partitions=listed, retries=1, retry_on=[ConnectionError, 'exit:75'], pool='db', max_parallel=3,\n"
        "      timeout_all='1h', when='params.day != \"\"')\n"
        "def fetch(item: str, partition: str, day: str): ...\n"
        "@task(per=fetch, require=0.5)\ndef clean(fetch: dict): ...\n"
        "@task(upstream='1_of')\ndef end(clean: list, fetch: list): ...\n"
    )
    definition = load_pipeline("shaped:end", tmp_path)
    tasks = {task.name: task for task in definition.tasks}

    assert set(definition.params or {}) == {"day"}
    fetch = tasks["fetch"]
    assert (fetch.partitions, fetch.needs, fetch.pools) == ("tasks.listed.output", ("listed",), ("db",))
    assert (fetch.retry_on, fetch.timeout_all, fetch.when) == (("ConnectionError", "exit:75"), 3600, 'params.day != ""')
    assert (tasks["clean"].per, tasks["clean"].require, tasks["end"].upstream) == ("fetch", 0.5, "1_of")
