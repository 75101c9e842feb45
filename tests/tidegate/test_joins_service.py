"""Joins and silences in a whole service: timers ring, the watch listens, reload keeps and gives up."""

from pathlib import Path

from tests.support.running import load, running

TEXT = """
service: {name: svc, dispatch: {poll: 100ms}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  pair:
    join:
      of:
        a: {sensor: hook, by: event.data.key, when: event.data.part == "a"}
        b: {sensor: hook, by: event.data.key, when: event.data.part == "b"}
      within: 1h
    run: {pipeline: p, key: key}
pipelines:
  p: {engine: command, argv: ["true"]}
"""
SHORT = TEXT.replace("within: 1h", "within: 1s").replace(
    "pipelines:", "    overdue: {run: {pipeline: p, params: {}}}\npipelines:"
)
QUIET = """
  quiet: {absent: {sensor: hook, for: 1s}, run: {pipeline: p}}
pipelines:
"""


def _body(part: str, key: str = "k") -> bytes:
    return f'{{"id": "{part}-{key}", "part": "{part}", "key": "{key}"}}'.encode()


async def test_a_key_that_lacks_a_part_becomes_overdue_by_itself(tmp_path: Path) -> None:
    """Nobody has to come for it: the timer rings, the decision says what is missing, the run for that case starts."""
    async with running(await load(tmp_path, SHORT, store="memory:")) as gate:
        await gate.post(body=_body("a"))
        (run,) = await gate.finished(1)
        decisions = await gate.decisions(trigger="pair")

    assert run["trigger"] == "pair"
    assert sorted(row["outcome"] for row in decisions) == ["fired", "overdue"]
    assert next(row for row in decisions if row["outcome"] == "overdue")["details"]["missing"] == ["b"]


async def test_a_silence_is_noticed_by_itself(tmp_path: Path) -> None:
    """A service that nobody talks to notices it, once; a reload that does not touch the rule changes nothing."""
    text = TEXT.replace("pipelines:\n", QUIET, 1)
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        await gate.finished(1)
        await gate.service.reload(await load(tmp_path, text + "x-more: 1\n", store="memory:"))
        await gate.post(body=_body("a"))
        await gate.finished(2)
        fired = await gate.decisions(trigger="quiet", outcome="fired")

    assert len(fired) == 2
    assert all("nothing came of hook since" in row["reason"] for row in fired)


async def test_a_reload_keeps_what_a_key_has_gathered(tmp_path: Path) -> None:
    """The part that came under the old configuration meets the one that comes under the new."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await gate.post(body=_body("a"))
        changed = TEXT.replace("run: {pipeline: p, key: key}", 'run: {pipeline: p, key: key, lane: "key"}')
        await gate.service.reload(await load(tmp_path, changed, store="memory:"))
        await gate.post(body=_body("b"))
        (run,) = await gate.finished(1)

    assert (run["key"], run["lane"]) == ("k", "k")
