"""The JSON Schema for editors."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from config.load import SECTIONS
from config.problems import Report
from config.schema import DIALECT, json_schema
from config.yaml import Items, Node, Scalar, Table, read_yaml
from tests.config.kinds import real_kinds, sample_kinds
from tests.config.test_quickstart import QUICKSTART, VALID


def _schema() -> dict[str, Any]:
    return json_schema(**sample_kinds())


def test_every_section_kind_and_engine_is_described() -> None:
    """All sections stand in the schema, and each kind and engine with its own options."""
    schema = _schema()

    assert schema["$schema"] == DIALECT
    assert set(schema["properties"]) == set(SECTIONS)
    assert schema["additionalProperties"] is False
    assert "start" in schema["$defs"]["sensor.tide"]["required"]
    assert schema["$defs"]["sensor.tide"]["properties"]["kind"]["const"] == "tide"
    assert {"url", "needs", "retries"} <= set(schema["$defs"]["engine.call"]["properties"])
    assert schema["$defs"]["sensor"]["properties"]["kind"]["enum"] == ["tide"]


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` dangles, with the kinds that come with the service too."""
    for schema in (_schema(), json_schema(**real_kinds())):
        for reference in _references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"], reference


def test_it_is_json() -> None:
    """The schema can be written as it is."""
    assert json.loads(json.dumps(_schema())) == _schema()


@pytest.mark.parametrize("file", [QUICKSTART, *VALID], ids=lambda path: path.stem)
def test_what_the_check_accepts_the_schema_accepts(file: Path) -> None:
    """An editor shows no error in a good configuration."""
    validator = jsonschema_rs.Draft202012Validator(json_schema(**real_kinds()))
    table = read_yaml(file.read_bytes(), str(file), Report())
    assert table is not None

    errors = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(_plain(table))]

    assert errors == []


@pytest.mark.parametrize(
    "data",
    [
        {"sensor": {}},
        {"sensors": {"a": {"kind": "tied"}}},
        {"sensors": {"a": {"kind": "tide", "path": "x"}}},
        {"sensors": {"a": {"kind": "tide", "path": "x", "start": "now", "evry": "5m"}}},
        {"triggers": {"t": {"on": {"sensor": "a"}}}},
        {"pipelines": {"p": {"engine": "call"}}},
        {"pipelines": {"p": {"engine": "call", "url": "x", "timeout": "soon"}}},
        {"service": {"limits": {"workers": "many"}}},
    ],
)
def test_what_is_wrong_shows_in_the_editor(data: Any) -> None:
    """Unknown keys, kinds and wrong types are errors of the schema too."""
    assert not jsonschema_rs.Draft202012Validator(_schema()).is_valid(data)


def _plain(node: Node) -> Any:
    if isinstance(node, Table):
        return {key: _plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [_plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.value


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    return []
