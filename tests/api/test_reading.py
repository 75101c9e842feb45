"""Reading: lists with their cursors, single things, explanations, lineage."""

from typing import Any

import httpx2 as httpx
import pytest

from pipelines.run import RunState
from tests.support.house import EVIL, FakeHouse


async def _get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ["events", "runs", "dead-letters", "triggers/orders-arrived/decisions"])
async def test_pages_hold_everything_once(name: str, lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Following the cursor gives each item once, newest first, and ends with null."""
    await lived_in.bury()
    whole = await _get(client, name)
    cursor, seen = None, []
    while True:
        page = await _get(client, name, limit=1, **({"cursor": cursor} if cursor else {}))
        seen += page["items"]
        cursor = page["cursor"]
        if cursor is None:
            break

    assert whole["cursor"] is None
    assert len(whole["items"]) > 1
    assert seen == whole["items"]
    # Uids, by which some lists are ordered, tell milliseconds apart.
    moments = [str(item.get("received_at") or item.get("created_at") or item["at"])[:23] for item in seen]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "ZXZlbnRzOg", "ZXZlbnRzOng", "!!", "é", "\0", "a" * 1025])
async def test_foreign_cursors_are_refused(cursor: str, lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A cursor that this list did not hand out is the caller's mistake, never ours."""
    answer = await client.get("/api/v1/events", params={"cursor": cursor})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_cursor_belongs_to_its_list(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A cursor of the runs is refused by the events."""
    cursor = (await _get(client, "runs", limit=1))["cursor"]

    assert (await client.get("/api/v1/events", params={"cursor": cursor})).status_code == 422


async def test_events_are_found_by_the_sources_id(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Sensor and id name exactly one event."""
    found = await _get(client, "events", sensor="landing", id="a.csv@1")

    assert [item["subject"] for item in found["items"]] == ["a.csv"]
    assert (await _get(client, "events", sensor="hook", id="a.csv@1"))["items"] == []


async def test_an_event_shows_what_came_of_it(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """An event shows its content, its decisions and its runs."""
    uid = (await _get(client, "events", id="a.csv@1", sensor="landing"))["items"][0]["uid"]

    event = await _get(client, f"events/{uid}")

    assert event["data"] == {"size": 99}
    assert [decision["outcome"] for decision in event["decisions"]] == ["fired"]
    assert event["runs"] == [event["decisions"][0]["run"]]
    assert event["received_at"].endswith("Z")


async def test_explain_tells_every_clause(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A fired decision is explained with the clauses it passed, a filtered one with the clause that decided."""
    events = {item["subject"]: item["uid"] for item in (await _get(client, "events"))["items"]}

    fired = (await _get(client, f"events/{events['a.csv']}/explain"))["verdicts"]
    small = (await _get(client, f"events/{events['small.csv']}/explain"))["verdicts"]

    assert [(v["trigger"], v["outcome"], v["basis"]) for v in fired] == [("orders-arrived", "fired", "stored")]
    assert [clause["passed"] for clause in fired[0]["clauses"]] == [True, True]
    assert [v["outcome"] for v in small] == ["filtered"]
    assert (small[0]["clauses"][-1]["path"], small[0]["clauses"][-1]["passed"]) == ("when", False)


async def test_explain_judges_again_what_was_not_stored(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Asked for a trigger that does not listen, the answer says so instead of nothing."""
    uid = (await _get(client, "events", id="a.csv@1", sensor="landing"))["items"][0]["uid"]

    verdicts = (await _get(client, f"events/{uid}/explain", trigger="everything"))["verdicts"]

    assert [(v["basis"], v["outcome"]) for v in verdicts] == [("judged_now", "filtered")]
    assert "does not listen" in verdicts[0]["reason"]
    assert (await client.get(f"/api/v1/events/{uid}/explain?trigger=nobody")).status_code == 404
    (disabled,) = (await _get(client, f"events/{uid}/explain", trigger="sleeping"))["verdicts"]
    assert (disabled["outcome"], disabled["reason"]) == ("filtered", "the trigger is disabled (enabled: false)")
    assert [(clause["path"], clause["passed"]) for clause in disabled["clauses"]] == [("enabled", False)]


async def test_triggers_count_exactly(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Counts hold every decision, the filtered ones too, which nobody counted one by one."""
    rows = {item["name"]: item["counts"] for item in (await _get(client, "triggers"))["items"]}

    assert rows == {"orders-arrived": {"filtered": 2, "fired": 3}, "everything": {"fired": 1}, "sleeping": {}}


async def test_a_run_shows_tasks_causes_and_trace(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A run shows its tasks in order with what they need, its causing events and its trace."""
    row = (await _get(client, "runs", state="succeeded", pipeline="orders"))["items"][0]

    run = await _get(client, f"runs/{row['uid']}")

    assert [(t["task"], t["needs"], t["state"], t["output"]) for t in run["tasks"]] == [
        ("extract", [], "succeeded", {"rows": 42}),
        ("load", ["extract"], "succeeded", {"rows": 42}),
    ]
    assert [event["subject"] for event in run["events"]] == ["a.csv"]
    assert run["event_count"] == 1
    assert len(run["trace_id"]) == 32
    assert run["duration"] > 0


async def test_logs_are_read_in_pages(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """`after` goes on where the last page ended; `final` is said with the last line of a run that has ended."""
    uid = (await _get(client, "runs", state="failed"))["items"][0]["uid"]

    first = await _get(client, f"runs/{uid}/logs", limit=1)
    second = await _get(client, f"runs/{uid}/logs", limit=5, after=first["after"])

    assert [line["text"] for line in first["lines"] + second["lines"]] == ["reading a.csv", f"careful {EVIL}"]
    assert (first["final"], second["final"]) == (False, True)
    assert (await _get(client, f"runs/{uid}/logs", task="load"))["lines"] == second["lines"]


@pytest.mark.parametrize("direction", ["both", "up", "down"])
async def test_lineage_leads_from_event_to_dataset(
    direction: str, lived_in: FakeHouse, client: httpx.AsyncClient
) -> None:
    """Around a run: up are its causes, down what came of it."""
    uid = (await _get(client, "runs", state="succeeded", pipeline="orders"))["items"][0]["uid"]

    kinds = {node["kind"] for node in (await _get(client, "lineage", run=uid, direction=direction))["nodes"]}

    up, down = {"event", "decision", "trigger_event"}, {"task", "dataset"}
    assert kinds == {"run"} | (up if direction != "down" else set()) | (down if direction != "up" else set())


async def test_lineage_of_a_dataset_by_its_name(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A dataset is found by its name, and unknown things are not invented."""
    graph = await _get(client, "lineage", dataset="daily", direction="up")

    assert graph["root"] == "duckdb://warehouse/daily"
    assert "a.csv" in " ".join(node["label"] for node in graph["nodes"])
    for query in ("dataset=nothing", "run=run_" + "0" * 26, "event=evt_" + "0" * 26):
        assert (await client.get(f"/api/v1/lineage?{query}")).status_code == 404
    assert (await client.get("/api/v1/lineage")).status_code == 422
    assert (await client.get("/api/v1/lineage?dataset=a&run=run_" + "0" * 26)).status_code == 422


async def test_datasets_and_pipelines(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Datasets show their last write, pipelines what they take and what waits."""
    datasets = (await _get(client, "datasets"))["items"]
    pipeline = await _get(client, "pipelines/orders")

    assert [(d["name"], d["rows"], d["fields"]) for d in datasets] == [("daily", 42, [["id", "Int64"]])]
    assert pipeline["waiting"] == {"queued": 1}
    assert pipeline["params"]["path"] == {"type": "str", "required": True, "default": None}


async def test_sensors_show_health_counts_and_refusals(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A sensor that does not run says so; refused requests stand with their endpoint."""
    lived_in.refusals.add("hook", 1_767_225_600_000_000, 401, "unverified", f"hmac: {EVIL}", "1.2.3.4")
    rows = {item["name"]: item for item in (await _get(client, "sensors"))["items"]}

    assert [rows[name]["health"]["state"] for name in ("landing", "hook", "off")] == ["healthy", "stopped", "disabled"]
    assert rows["landing"]["counts"] == {"stored": 5}
    refusals = (await _get(client, "sensors/hook"))["refusals"]
    assert [(r["status"], r["code"], r["at"]) for r in refusals] == [(401, "unverified", "2026-01-01T00:00:00Z")]


async def test_dead_letters_keep_their_bytes(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """A payload that is no text comes as base64; dropping it is for good."""
    uid = (await _get(client, "dead-letters"))["items"][0]["uid"]

    letter = await _get(client, f"dead-letters/{uid}")

    assert (letter["payload"], letter["payload_base64"], letter["size"]) == (None, "/wBicm9rZW4=", 8)
    assert (await client.delete(f"/api/v1/dead-letters/{uid}")).status_code == 204
    assert (await client.delete(f"/api/v1/dead-letters/{uid}")).status_code == 404
    assert (await client.get(f"/api/v1/dead-letters/{uid}")).status_code == 404


async def test_content_that_breaks_its_promise_is_shown_as_text(house: FakeHouse, client: httpx.AsyncClient) -> None:
    """Bytes that are not what their type says never break the answer."""
    uid = await house.receive("broken", data=b'\xff{"a": \x00')

    assert (await _get(client, f"events/{uid}"))["data"].startswith("\N{REPLACEMENT CHARACTER}")


async def test_runs_are_filtered(lived_in: FakeHouse, client: httpx.AsyncClient) -> None:
    """Filters are exact and may be combined."""
    states = [run["state"] for run in (await _get(client, "runs", pipeline="orders"))["items"]]

    assert states == [RunState.QUEUED, RunState.FAILED, RunState.SUCCEEDED]
    assert (await _get(client, "runs", since="2999-01-01T00:00:00Z"))["items"] == []
    assert len((await _get(client, "runs", until="2999-01-01T00:00:00+01:00"))["items"]) == 4
