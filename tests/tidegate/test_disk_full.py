"""A full disk: refused with 503, then on again with nothing lost and nothing doubled."""

import sqlite3
from pathlib import Path

from tests.support.running import load, running, until

TEXT = """
service: {name: svc, store: "sqlite:///store.db", dispatch: {lease: 1s, grace: 0s, poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  all: {on: {sensor: hook}, run: {pipeline: p, key: event.id}}
pipelines:
  p: {engine: command, argv: ["true"]}
"""


def _check(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")]


async def test_a_full_disk_is_503_until_there_is_room(tmp_path: Path) -> None:
    """Every event that was answered 202 is stored, none that was refused is; with room again, all goes on by itself."""
    store = f"sqlite:///{tmp_path / 'store.db'}?max_pages=260"
    config = await load(tmp_path, TEXT, store=store)
    accepted: list[str] = []
    padding = "x" * 60_000
    async with running(config, patience=0.2) as gate:
        answer = await gate.post(body=b'{"id": "first"}')
        accepted.append("first")
        for n in range(100):
            answer = await gate.post(body=f'{{"id": "{n}", "pad": "{padding}"}}'.encode())
            if answer.status != 202:
                break
            accepted.append(str(n))
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert accepted
        assert gate.service.ready()[0] is False
        assert "full" in gate.service.ready()[1]
        refused = await gate.post(body=b'{"id": "small"}')
        stored = [row["id"] for row in await gate.events(sensor="hook")]
        assert sorted(stored) == sorted(accepted)
        assert refused.status == 503

    async with running(await load(tmp_path, TEXT, store=store.partition("?")[0])) as gate:
        answers = [await gate.post(body=f'{{"id": "{n}"}}'.encode()) for n in [*accepted, "small"]]
        runs = await gate.finished(len(accepted) + 1)

        assert [answer.json["events"][0]["duplicate"] for answer in answers] == [True] * len(accepted) + [False]
        assert sorted(run["key"] for run in runs) == sorted([*accepted, "small"])
        assert {run["state"] for run in runs} == {"succeeded"}
    assert _check(tmp_path / "store.db") == ["ok"]


async def test_room_while_it_runs_needs_no_restart(tmp_path: Path) -> None:
    """When the disk has room again, the service notices by itself."""
    store = f"sqlite:///{tmp_path / 'store.db'}?max_pages=230"
    async with running(await load(tmp_path, TEXT, store=store)) as gate:
        n = 0
        while (await gate.post(body=f'{{"id": "{n}", "pad": "{"x" * 50_000}"}}'.encode())).status == 202:
            n += 1
        backend = gate.service.store._backend  # type: ignore[attr-defined]
        assert not gate.service.ready()[0]
        backend._connection.execute("PRAGMA max_page_count = 100000")
        await until(lambda: gate.service.ready()[0])
        again = await gate.post(body=f'{{"id": "{n}"}}'.encode())
        await gate.finished(n + 1, 30.0)

        assert (again.status, again.json["events"][0]["duplicate"]) == (202, False)
        assert len(await gate.events(sensor="hook")) == n + 1
