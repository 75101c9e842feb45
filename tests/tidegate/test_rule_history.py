"""Rules of another day: written down at start and reload, found by moment and by version, and bounded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from config.load import load_config
from tests.support.running import load
from tidegate.rule_history import KEPT, RecordRules, completed, in_force, of_version, plain, read, written
from tidegate.store.factory import open_store
from tidegate.store.tx import Store
from triggers.trigger import RunRule, Source, Trigger

EVERY = """
service: {name: svc}
sensors: {s: {kind: webhook, path: /hooks/in, verify: none}}
triggers:
  plain:
    on: [{sensor: s, type: a, filter: {not: {exact: {data.n: 1}}}}, {sensor: s}]
    when: event.data.n > 1
    each: event.data.list
    run: [{pipeline: p, params: {a: ["${{ item }}", 1, true]}, key: item.id}, {pipeline: p, lane: item.lane}]
    repeat: skip
    when_busy: coalesce
    paused: hold
  six:
    join:
      of:
        a: {sensor: s, by: event.data.day, take: latest}
        b: {sensor: s, by: event.data.day, when: event.data.n == 1}
      opens: {cron: "0 0 * * 1-5", key: 'day(now, "Europe/Oslo")'}
      until: "06:00"
      require: 1 of 2
      timezone: Europe/Oslo
      late: alert
    overdue: {alert: false, run: {pipeline: p}}
    run: {pipeline: p, key: key}
  then: {sequence: {of: {a: {sensor: s}, b: {sensor: s, type: x}}, within: 1h}, run: {pipeline: p}}
  many: {count: {sensor: s, reach: 3, within: 1m}, run: {pipeline: p}}
  quiet: {absent: {sensor: s, for: 15m}, run: {pipeline: p}, enabled: false}
  answer:
    absent: {sensor: s, for: 15m, by: event.data.n, after: {sensor: s, by: event.data.n}}
    run: {pipeline: p}
pipelines: {p: {engine: command, argv: ["true"]}}
"""


def _rules(version: str) -> dict[str, Trigger]:
    return {"t": Trigger(name="t", on=(Source(sensor="s"),), runs=(RunRule(pipeline="p"),), version=version)}


async def test_every_trigger_comes_back_as_it_was(tmp_path: Path) -> None:
    """Triggers of every form, written down and read again, are equal to what the configuration said."""
    triggers = (await load(tmp_path, EVERY)).triggers
    back = read(written(triggers).text)

    assert {name: _plain(one) for name, one in back.items()} == {
        name: _plain(plain(one)) for name, one in triggers.items()
    }
    assert written(back) == written(triggers)


def _plain(trigger: Trigger) -> object:
    """Return all that a trigger says, whatever sorts of sequences and mappings say it."""
    return orjson.dumps(asdict(trigger), option=orjson.OPT_SORT_KEYS), type(trigger.pattern), type(trigger.repeat)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    made = open_store("memory:", shard="test")
    await made.open()
    yield made
    await made.close()


async def _record(store: Store, version: str) -> bool:
    return await store.submit(RecordRules(), written(_rules(version)))


async def test_rules_are_found_by_moment_and_by_version(store: Store) -> None:
    """Before the first there are none known; from then on those that were recorded last before the moment."""
    assert await _record(store, "v1")
    assert not await _record(store, "v1")
    first = await _moments(store)
    assert await _record(store, "v2")
    assert await _record(store, "v1")
    moments = await _moments(store)

    async def version(at: int) -> str | None:
        found = await store.read(lambda reader: in_force(reader, at))
        return None if found is None else found["t"].version

    assert [await version(at) for at in (first[0] - 1, *moments, moments[-1] + 9)] == [None, "v1", "v2", "v1", "v1"]
    for name in ("v1", "v2"):
        found = await store.read(lambda reader, name=name: of_version(reader, "t", name))  # type: ignore[misc]
        assert found is not None
        assert found.version == name
    assert await store.read(lambda reader: of_version(reader, "t", "v3")) is None
    assert await store.read(lambda reader: of_version(reader, "u", "v1")) is None


async def _moments(store: Store) -> list[int]:
    found = await store.read(lambda reader: reader.settings("rules/at/"))
    return [int(name.rpartition("/")[2]) for name in sorted(found)]


async def test_what_is_kept_is_bounded(store: Store) -> None:
    """However often rules change, so many are kept, and of those that went the text goes too."""
    for n in range(KEPT + 20):
        await _record(store, f"v{n}")
    texts = await store.read(lambda reader: reader.settings("rules/text/"))

    assert len(await _moments(store)) == KEPT
    assert len(texts) == KEPT


SECRETS = """
service: {name: svc}
sensors: {s: {kind: webhook, path: /hooks/in, verify: none}}
triggers:
  asks: {on: {sensor: s, filter: {exact: {data.token: "${env:TOKEN}"}}}, run: {pipeline: p}}
  hands: {on: {sensor: s}, run: {pipeline: p, params: {token: "${env:TOKEN}"}}}
pipelines: {p: {engine: command, argv: ["true"], params: {token: {type: str}}}}
"""


async def test_no_secret_is_written_down(tmp_path: Path) -> None:
    """Neither parameters nor conditions bring what a reference stands for into the store."""
    path = tmp_path / "tidegate.yaml"
    await asyncio.to_thread(path.write_text, SECRETS)
    config = await asyncio.to_thread(load_config, [path], environ={"TOKEN": "hunter2"})
    text = written(config.triggers).text

    assert config.triggers["hands"].runs[0].params == {"token": "hunter2"}
    assert "hunter2" not in text
    assert set(read(text)) == {"hands"}
    back = completed(read(text), config.triggers)
    assert back["asks"] is config.triggers["asks"]
    assert _plain(back["hands"]) == _plain(config.triggers["hands"])
