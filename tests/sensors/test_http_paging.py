"""How lists are read page by page: every item once, circles and moving lists noticed, bounds kept."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sensors.errors import BackOff, NotConnected
from sensors.testing import VirtualClock
from tests.support.http_watch import Watch, make_context, told
from tests.support.misbehaving_api import MisbehavingApi, Reply, Seen, reply, running_api

ROWS = [{"id": n} for n in range(7)]
Answer = Callable[[Seen], Reply]


@pytest.fixture
async def api() -> AsyncIterator[MisbehavingApi]:
    async with running_api() as server:
        yield server


def by_link(seen: Seen) -> Reply:
    at = int(seen.query.get("at", 0))
    links = ['</first>; rel="first"; title="a, b"', f'<?at={at + 3}>; title=x; rel="prev next"'][
        : 2 if at + 3 < 7 else 1
    ]
    return reply(ROWS[at : at + 3], headers={"Link": ", ".join(links)})


def by_cursor(seen: Seen) -> Reply:
    at = int(seen.query.get("after", "c0")[1:])
    return reply({"items": ROWS[at : at + 3], "next": f"c{at + 3}" if at + 3 < 7 else None})


def by_body_cursor(seen: Seen) -> Reply:
    at = json.loads(seen.body).get("page", {}).get("after", 0)
    return reply({"items": ROWS[at : at + 3], "next": at + 3 if at + 3 < 7 else None})


def by_url(seen: Seen) -> Reply:
    at = int(seen.query.get("p", 0))
    return reply({"items": ROWS[at : at + 3], "next": f"/more?p={at + 3}" if at + 3 < 7 else ""})


def by_offset(seen: Seen) -> Reply:
    at, limit = (
        int(seen.query["offset"]),
        min(3, int(seen.query.get("limit", 3))),
    )  # it gives fewer than it is asked for
    return reply({"items": ROWS[at : at + limit]})


def by_number(seen: Seen) -> Reply:
    at = (int(seen.query["page"]) - 1) * 3
    return reply({"items": ROWS[at : at + 3], "more": at + 3 < 7})


@pytest.mark.parametrize(
    ("answer", "options", "requests"),
    [
        pytest.param(by_link, {"paging": {"by": "link"}}, 3, id="link"),
        pytest.param(
            by_cursor,
            {"items": "body.items", "paging": {"by": "cursor", "next": "body.next", "param": "after"}},
            3,
            id="cursor",
        ),
        pytest.param(
            by_url, {"items": "body.items", "paging": {"by": "cursor", "next": "body.next"}}, 3, id="next-url"
        ),
        pytest.param(
            by_body_cursor,
            {
                "method": "POST",
                "json": {"page": {"size": 3}},
                "items": "body.items",
                "paging": {"by": "cursor", "next": "body.next", "param": "page.after", "into": "json"},
            },
            3,
            id="cursor-in-json",
        ),
        pytest.param(by_offset, {"items": "body.items", "paging": {"by": "offset", "limit": 5}}, 4, id="offset"),
        pytest.param(by_offset, {"items": "body.items", "paging": {"by": "offset", "overlap": 0}}, 3, id="offset-bare"),
        pytest.param(by_number, {"items": "body.items", "paging": {"by": "page", "size": 5}}, 3, id="page"),
        pytest.param(
            by_number, {"items": "body.items", "paging": {"by": "page", "more": "body.more"}}, 3, id="page-more"
        ),
    ],
)
async def test_every_page_is_read(api: MisbehavingApi, answer: Answer, options: dict[str, Any], requests: int) -> None:
    """All items of all pages are events, each once, also where a server gives fewer per page than it is asked for."""
    watch = Watch({"url": api.url, "id": "item.id", **options})
    api.otherwise = answer
    events = await watch.poll()
    count, trouble = len(api.seen), watch.sensor.trouble()
    await watch.close()

    assert [event.id for event in events] == [str(n) for n in range(7)]
    assert (count, trouble) == (requests, None)


CIRCLES = [
    pytest.param(
        lambda _: reply(ROWS, headers={"Link": '</b>; rel="next"'}), {"by": "link"}, "is the same as page 1", id="same"
    ),
    pytest.param(
        lambda seen: reply(
            [{"id": len(seen.path)}], headers={"Link": f"<{'/' if seen.path == '/bb' else '/bb'}>; rel=next"}
        ),
        {"by": "link"},
        "after page 2 an earlier one comes again",
        id="link",
    ),
    pytest.param(lambda _: reply(ROWS), {"by": "offset"}, "is the same as page 1", id="offset-ignored"),
    pytest.param(lambda _: reply(ROWS), {"by": "page"}, "is the same as page 1", id="page-ignored"),
    pytest.param(
        lambda seen: reply([{"id": int(seen.query["page"])}]),
        {"by": "page", "max_pages": 5},
        "more than 5 pages (`paging.max_pages`)",
        id="endless",
    ),
    pytest.param(
        lambda _: reply(ROWS, headers={"Link": '<http://example.com/2>; rel="next"'}),
        {"by": "link"},
        "on another host (http://example.com/2); that is not followed",
        id="elsewhere",
    ),
    pytest.param(
        lambda _: reply(ROWS),
        {"by": "cursor", "next": "body.next"},
        "`paging.next` cannot be evaluated",
        id="no-cursor",
    ),
]


@pytest.mark.parametrize(("answer", "paging", "words"), CIRCLES)
async def test_pages_that_lead_nowhere_end_with_a_sentence(
    api: MisbehavingApi, answer: Answer, paging: dict[str, Any], words: str
) -> None:
    """A circle, an endless list and a link to another host end the poll; the position stays."""
    watch = Watch({"url": api.url, "id": "item.id", "paging": paging})
    api.otherwise = answer
    with pytest.raises(NotConnected) as failed:
        await watch.poll()

    assert words in str(failed.value)
    assert len(api.seen) <= 6
    assert not watch.cursor or json.loads(watch.cursor)["baseline"] is False


@pytest.mark.parametrize("by", ["offset", "page"])
async def test_a_list_that_moves_while_it_is_read_keeps_its_mark(api: MisbehavingApi, by: str) -> None:
    """A row that leaves a page already read pulls another one past us; so the mark stays, and the next poll has it."""
    rows = [{"id": str(n), "at": f"2026-01-31T06:00:0{n}Z"} for n in range(6)]
    watch = Watch(
        {
            "url": api.url,
            "id": "item.id",
            "version": "item.at",
            "high": "item.at",
            "overlap": "1s",
            "query": {"since": "${{ cursor.high }}"},
            "paging": {"by": by},
        }
    )

    moves = True

    def answer(seen: Seen) -> Reply:
        nonlocal moves
        since = seen.query.get("since", "")
        listed = sorted((row for row in rows if row["at"] >= since), key=lambda row: row["at"])
        at = int(seen.query["offset"]) if by == "offset" else (int(seen.query["page"]) - 1) * 3
        found = reply(listed[at : at + 3])
        if moves and at == 0:  # right after the first page its first row is updated and moves to the end
            moves = False
            rows[0]["at"] = "2026-01-31T06:01:00Z"
        return found

    api.otherwise = answer
    first = await watch.poll()
    stays = json.loads(watch.cursor).get("high")
    second = await watch.poll()
    await watch.close()

    passed = "3@2026-01-31T06:00:03Z" not in {event.id for event in first}
    assert passed is (by == "page")  # by offset, what is asked for twice has saved it already
    assert stays is None
    assert (("item.created", "3@2026-01-31T06:00:03Z") in told(second)) is passed
    assert json.loads(watch.cursor)["high"] == "2026-01-31T06:01:00Z"
    assert len(watch.inbox.events) == 7


async def test_a_list_that_never_rests_is_told(api: MisbehavingApi) -> None:
    """After three such polls in a row the sensor is unhealthy, says why, and still brings everything."""
    watch = Watch({"url": api.url, "id": "item.id", "start": "now", "paging": {"by": "offset", "limit": 2}})
    count = 0

    def answer(seen: Seen) -> Reply:
        nonlocal count
        count += 1
        at = int(seen.query["offset"])
        return reply([{"id": f"{count}-{n}"} for n in range(at, min(4, at + 2))])

    api.otherwise = answer
    troubles = []
    for _ in range(4):
        await watch.poll()
        troubles.append(watch.sensor.trouble() or "")
    await watch.close()

    assert [bool(trouble) for trouble in troubles] == [False, False, True, True]
    assert "the list moves while its pages are read" in troubles[2]
    assert watch.inbox.events  # the third poll ended the baseline all the same


async def test_a_page_too_many_to_judge_at_once_is_judged_in_slices(api: MisbehavingApi) -> None:
    """A page of thousands of items becomes several batches, so that no transaction and no turn of the loop is long."""
    watch = Watch({"url": api.url, "id": "item.id"})
    api.otherwise = lambda _: reply([{"id": n} for n in range(1_700)])
    events = await watch.poll()
    await watch.close()

    assert len(events) == 1_700
    assert max(len(batch.events) for batch in watch.inbox.batches) == 500


async def test_a_page_that_fails_is_asked_for_again(api: MisbehavingApi) -> None:
    """In the middle of a list the poll goes on where it stopped, three times; then it begins anew."""
    clock = VirtualClock()
    watch = Watch({"url": api.url, "id": "item.id", "paging": {"by": "link"}}, make_context(clock))
    bad = [reply([], manner="half"), reply({}, 500), Reply(b"[1, "), reply({}, 500)]
    first, last = by_link(Seen("GET", "/", {}, {}, b"")), reply([{"id": 6}])
    api.script += [first, *bad[:3], last, first, *bad]
    waits = await waits_of(watch)
    asked = [seen.query.get("at") for seen in api.seen]
    await watch.close()
    api.seen.clear()
    with pytest.raises(NotConnected, match="an error of its own"):
        await waits_of(watch)

    assert waits == [2.0, 4.0, 8.0]
    assert asked == [None, "3", "3", "3", "3"]
    assert [seen.query.get("at") for seen in api.seen] == [None, "3", "3", "3", "3"]
    assert [event.id for event in watch.inbox.events] == ["0", "1", "2", "6"]


async def waits_of(watch: Watch) -> list[float]:
    """Have one poll made as the runner would; return how long it waited."""
    waits: list[float] = []
    await watch.connect()
    watch.sensor._completed = None
    while watch.sensor.lag() is None:
        try:
            await watch.step()
        except BackOff as wait:
            waits.append(wait.wait if "page 2 is asked for again" in str(wait) else -1)
        except NotConnected:
            await watch.close()
            raise
    return waits
