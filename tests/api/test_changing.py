"""Changing: start, cancel, resume, pause, poll."""

from typing import Any

import httpx2 as httpx
import pytest

from pipelines.run import RunState
from tests.support.house import FakeHouse
from tidegate.start import UnknownPipeline


async def test_a_run_started_by_hand(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A start answers 201 with the run and where it is; text becomes what the pipeline declares."""
    answer = await client.post("/api/v1/runs", json={"pipeline": "orders", "params": {"path": "a", "n": "7"}})

    run = await client.get(answer.headers["location"])
    assert (answer.status_code, run.json()["params"]) == (201, {"path": "a", "n": 7})
    assert run.json()["trigger"] is None


async def test_a_key_starts_one_run(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """The second start with the same key answers 200 with the first one's run."""
    body = {"pipeline": "anything", "key": "today"}
    first, second = [await client.post("/api/v1/runs", json=body) for _ in range(2)]

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["uid"] == second.json()["uid"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"pipeline": "nothing"}, id="unknown pipeline"),
        pytest.param({"pipeline": "orders"}, id="missing parameter"),
        pytest.param({"pipeline": "orders", "params": {"path": "a", "nn": 1}}, id="unknown parameter"),
        pytest.param({"pipeline": "orders", "params": {"path": 1}}, id="wrong type"),
        pytest.param({"pipeline": "anything", "params": {"a": 2**80}}, id="beyond 64 bits"),
        pytest.param({"pipeline": "anything", "params": {"a": "x" * 70_000}}, id="too large"),
        pytest.param({"pipeline": "anything", "params": {"a": "\0"}}, id="NUL"),
        pytest.param({"pipeline": "anything", "params": {"a\0": 1}}, id="NUL in a name"),
        pytest.param({"pipeline": "anything", "params": {"a": {"\ud800": ["\udc00"]}}}, id="lone surrogates"),
        pytest.param({"pipeline": "anything", "params": {"\ud800": 1}}, id="lone surrogate in a name"),
        pytest.param({"pipeline": "\ud800"}, id="lone surrogate as pipeline"),
        pytest.param({"pipeline": "anything", "key": "a\0b"}, id="NUL in the key"),
        pytest.param({"pipeline": "anything", "partition": "\udfff"}, id="surrogate in the partition"),
        pytest.param({"pipeline": "anything", "\ud800": 1}, id="surrogate in a field's name"),
        pytest.param({"pipeline": "anything", "unknown": 1}, id="unknown field"),
        pytest.param({"pipeline": ["a"]}, id="a list"),
        pytest.param([], id="no object"),
        pytest.param(None, id="null"),
    ],
)
async def test_bad_starts_are_refused(body: Any, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """What cannot be a run is refused with 422 and a sentence, and nothing is started."""
    import json

    answer = await client.post(
        "/api/v1/runs", content=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"]
    assert (await client.get("/api/v1/runs")).json()["items"] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"NaN", b'{"pipeline":' + b"[" * 50_000, b'{"params":{"a":NaN},"pipeline":"anything"}'],
)
async def test_broken_json_is_the_callers_mistake(content: bytes, house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Bodies that are no JSON, or nest too deeply, are 4xx."""
    answer = await client.post("/api/v1/runs", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_cancel(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A queued run ends at once; one that has ended cannot be cancelled; one that never was is 404."""
    uid = (await client.post("/api/v1/runs", json={"pipeline": "anything"})).json()["uid"]

    first = await client.post(f"/api/v1/runs/{uid}/cancel", json={"reason": "not today"})
    second = await client.post(f"/api/v1/runs/{uid}/cancel")

    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    assert (await client.get(f"/api/v1/runs/{uid}")).json()["cancel_reason"] == "not today"
    assert second.status_code == 409
    assert (await client.post(f"/api/v1/runs/run_{'0' * 26}/cancel")).status_code == 404


async def test_resume(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A failed run goes on as a new generation, once; what succeeded cannot be resumed."""
    await house.receive("a.csv")
    (failed,) = await house.work(RunState.FAILED)

    answer = await client.post(f"/api/v1/runs/{failed.uid}/resume")
    again = await client.post(f"/api/v1/runs/{failed.uid}/resume")

    assert (answer.status_code, answer.json()["resumed_from"], answer.json()["generation"]) == (201, failed.uid, 2)
    assert (again.status_code, "followed by" in again.json()["detail"]) == (409, True)
    assert (await client.post(f"/api/v1/runs/run_{'0' * 26}/resume")).status_code == 404
    (done,) = await house.work()
    assert (await client.post(f"/api/v1/runs/{done.uid}/resume")).status_code == 409


async def test_resume_in_bulk(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A dry run only tells which; the real one resumes each once and names those that it could not."""
    for name in ("a.csv", "b.csv"):
        await house.receive(name)
    failed = {run.uid for run in await house.work(RunState.FAILED)}
    body = {"status": "failed", "since": "2020-01-01T00:00:00Z"}

    dry = (await client.post("/api/v1/runs/resume", json={**body, "dry_run": True})).json()
    real = (await client.post("/api/v1/runs/resume", json=body)).json()
    again = (await client.post("/api/v1/runs/resume", json=body)).json()
    none = (await client.post("/api/v1/runs/resume", json={**body, "pipeline": "anything"})).json()

    assert (set(dry["matched"]), dry["resumed"]) == (failed, [])
    assert len(real["resumed"]) == 2
    assert real["refused"] == []
    assert {item["run"] for item in again["refused"]} == failed
    assert none["matched"] == []


async def test_resume_in_bulk_by_partition(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Of the runs that failed only those of one partition go on; lists and lineage show them by it."""
    for day in ("2026-01-01", "2026-01-02"):
        await client.post("/api/v1/runs", json={"pipeline": "anything", "partition": day})
    await house.work(RunState.FAILED)
    body = {"status": "failed", "since": "2020-01-01T00:00:00Z", "partition": "2026-01-02"}

    dry = (await client.post("/api/v1/runs/resume", json={**body, "dry_run": True})).json()
    real = (await client.post("/api/v1/runs/resume", json=body)).json()
    listed = (await client.get("/api/v1/runs?partition=2026-01-02")).json()["items"]
    graph = (await client.get(f"/api/v1/lineage?run={real['resumed'][0]}")).json()

    assert len(dry["matched"]) == len(real["resumed"]) == 1
    assert [run["partition"] for run in listed] == ["2026-01-02"] * 2
    assert listed[0]["uid"] == real["resumed"][0]
    assert {node["label"] for node in graph["nodes"] if node["kind"] == "run"} == {"anything [2026-01-02]"}


async def test_bulk_resume_needs_a_beginning(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Nobody resumes everything there ever was by leaving a field out."""
    assert (await client.post("/api/v1/runs/resume", json={"status": "failed"})).status_code == 422


async def test_pausing_a_trigger(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """A paused trigger says how it is paused; a disabled one cannot be paused."""
    held = await client.post("/api/v1/triggers/everything/pause")
    dropped = await client.post("/api/v1/triggers/everything/pause", json={"how": "drop"})
    resumed = await client.post("/api/v1/triggers/everything/resume")

    assert [answer.json()["paused"] for answer in (held, dropped, resumed)] == ["hold", "drop", None]
    assert (await client.post("/api/v1/triggers/sleeping/pause")).status_code == 409
    assert (await client.post("/api/v1/triggers/nobody/pause")).status_code == 404
    assert (await client.post("/api/v1/triggers/everything/pause", json={"how": "x"})).status_code == 422


async def test_pausing_and_polling_a_sensor(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Pull sensors can be made to look now; push ones have nothing to poll."""
    assert (await client.post("/api/v1/sensors/landing/pause", json={"how": "drop"})).status_code == 200
    assert house.paused == {"landing": "drop"}
    assert (await client.post("/api/v1/sensors/landing/resume")).status_code == 200
    assert house.paused == {}
    assert (await client.post("/api/v1/sensors/landing/poll")).status_code == 202
    assert house.polled == ["landing"]
    assert (await client.post("/api/v1/sensors/hook/poll")).status_code == 409
    assert (await client.post("/api/v1/sensors/off/poll")).status_code == 409
    assert (await client.post("/api/v1/sensors/nobody/poll")).status_code == 404


async def test_what_a_reload_has_just_taken_away(
    house: FakeHouse, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the deed a reload may remove a thing: that is told, and is nobody's fault."""

    async def gone(*_: Any) -> None:
        raise KeyError("gone")

    async def unknown(*_: Any) -> None:
        raise UnknownPipeline("gone")

    for name, deed in (("pause_sensor", gone), ("poll_sensor", gone), ("pause_trigger", gone), ("start_run", unknown)):
        monkeypatch.setattr(house, name, deed)

    assert (await client.post("/api/v1/sensors/landing/pause")).status_code == 409
    assert (await client.post("/api/v1/sensors/landing/poll")).status_code == 409
    assert (await client.post("/api/v1/triggers/everything/resume")).status_code == 404
    assert (await client.post("/api/v1/runs", json={"pipeline": "anything"})).status_code == 422
