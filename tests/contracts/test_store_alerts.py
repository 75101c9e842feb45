"""What every store promises about alerts: kept once per route, planned by one at a time, messages claimed and ended."""

from collections.abc import Sequence
from typing import Any

import pytest

from sensors.uid import ALERT, ALERT_MESSAGE, make_uid
from tests.support.stores import T0, do
from tidegate.store.alert_records import AlertGroup, AlertMessage, AlertRow, MessageEnd, Undelivered
from tidegate.store.pages import BadCursor
from tidegate.store.tx import ItemRefused, Store

LEASE = 60_000_000
FAR = 2**60


def alert(n: int, **fields: Any) -> AlertRow:
    """Make the alert `n` of route `r` in group `g`."""
    values: dict[str, Any] = {
        "uid": make_uid(ALERT, T0 + n * 1_000, bytes(10)),
        "route": "r",
        "id": f"run_failed/run_{n}",
        "kind": "run_failed",
        "severity": "error",
        "subject": "p",
        "group": "g",
        "at": T0 + n,
        "text": "it broke: 'a' \"b\" \\ %s ? ü 😀",
        "labels": {"pipeline": "p", "tags": ["x", "ü"], "refs": {"run": f"run_{n}"}},
    }
    return AlertRow(**{**values, **fields})


def uid(n: int) -> str:
    return alert(n).uid


def message(n: int, **fields: Any) -> AlertMessage:
    """Make the message `n` of route `r` to its first target, due long ago."""
    name = make_uid(ALERT_MESSAGE, T0 + n * 1_000, bytes(10))
    values: dict[str, Any] = {"message": name, "target": 0, "route": "r", "group": "g", "made_at": T0, "body": "{}"}
    return AlertMessage(**{**values, **fields})


async def keep(store: Store, *rows: AlertRow) -> int:
    return await do(store, lambda tx: tx.insert_alerts(rows))


async def send(store: Store, *messages: AlertMessage) -> None:
    await do(store, lambda tx: tx.insert_messages(messages))


async def claim(store: Store, limit: int = 10) -> Sequence[AlertMessage]:
    return await do(store, lambda tx: tx.claim_messages(limit, LEASE))


async def end(store: Store, claimed: AlertMessage, state: str, next_at: int = 0, error: str = "") -> bool:
    ended = MessageEnd(claimed.message, claimed.target, claimed.attempts, state, next_at, error)
    return await do(store, lambda tx: tx.end_attempt(ended))


async def states(store: Store) -> list[tuple[str, str]]:
    """Return (uid, state) of all alerts, oldest first, as readers see them."""
    rows, _ = await store.read(lambda reader: reader.alerts(limit=100))
    return [(row["uid"], row["state"]) for row in reversed(rows)]


async def test_an_alert_comes_back_as_it_was(store: Store) -> None:
    """Every field survives, whatever text is in it."""
    rows = [alert(1, ends=True, count=7), alert(2, labels={})]
    await keep(store, *rows)

    assert list(await do(store, lambda tx: tx.new_alerts("r", 10))) == rows
    assert await do(store, lambda tx: tx.alerts_by_uid([uid(2), "none"])) == {uid(2): rows[1]}


async def test_a_route_keeps_an_alert_once(store: Store) -> None:
    """The same alert again, as after a commit whose answer was lost, is no other one; another route has its own."""
    first = await keep(store, alert(1), alert(2))
    again = await keep(store, alert(3, id=alert(1).id), alert(4, id=alert(1).id, route="other"))

    assert (first, again) == (2, 1)
    assert [row.uid for row in await do(store, lambda tx: tx.new_alerts("r", 10))] == [uid(1), uid(2)]


async def test_hostile_text_is_refused(store: Store) -> None:
    """What text columns do not take is refused as an item; nothing of it is kept."""
    with pytest.raises(ItemRefused):
        await keep(store, alert(1, text="a\0b"))

    assert await states(store) == []


async def test_new_alerts_are_bounded_and_of_one_route(store: Store) -> None:
    """The oldest come first, as many as asked for, and none that somebody has looked at."""
    await keep(store, *[alert(n) for n in (3, 1, 2)], alert(4, route="other"))
    await do(store, lambda tx: tx.set_alerts([uid(1)], "gathered"))

    found = await do(store, lambda tx: tx.new_alerts("r", 1))
    assert [row.uid for row in found] == [uid(2)]
    assert await do(store, lambda tx: tx.alert_routes_due()) == ["other", "r"]


async def test_what_is_failing_is_known_before_anybody_looked(store: Store) -> None:
    """Open groups and alerts that are new count, by route, with the latest moment; ends and closed groups do not."""
    await keep(store, alert(1), alert(5), alert(6, ends=True), alert(7, group="other"), alert(8, route="x", ends=True))
    groups = [
        AlertGroup("r", "open", "run_failed", True, 42, None, "{}"),
        AlertGroup("r", "closed", "run_failed", False, 42, None, "{}"),
        AlertGroup("r", "g", "run_failed", True, 1, None, "{}"),
    ]
    await do(store, lambda tx: tx.put_alert_groups(groups))

    found = await do(store, lambda tx: tx.failing(["g", "open", "closed", "none"]))
    assert found == {("r", "g"): T0 + 5, ("r", "open"): 42}


async def test_a_locked_route_keeps_its_state(store: Store) -> None:
    """A route that is locked for the first time is there afterwards, empty; what is written comes back."""
    first = await do(store, lambda tx: tx.lock_alert_routes(["r", "q"]))
    await do(store, lambda tx: tx.put_alert_groups([AlertGroup("r", "", "", False, 0, None, "state")]))

    assert first == {"r": "", "q": ""}
    assert await do(store, lambda tx: tx.lock_alert_routes(["r", "q"])) == {"r": "state", "q": ""}
    assert await do(store, lambda tx: tx.alert_groups("r", [""])) == []


async def test_groups_that_are_due_or_named(store: Store) -> None:
    """A look finds what is due by the store's clock and what it asks for, of its own route."""
    made = [
        AlertGroup("r", "due", "run_failed", True, 1, 1, "1"),
        AlertGroup("r", "later", "run_failed", True, 1, FAR, "2"),
        AlertGroup("r", "never", "run_failed", False, 1, None, "3"),
        AlertGroup("q", "due", "run_failed", True, 1, 1, "4"),
    ]
    await do(store, lambda tx: tx.put_alert_groups(made))

    assert await do(store, lambda tx: tx.alert_groups("r", ["never"])) == [made[0], made[2]]
    assert await do(store, lambda tx: tx.alert_routes_due()) == ["q", "r"]
    assert await do(store, lambda tx: tx.alerts_next()) == 1
    await do(store, lambda tx: tx.drop_alert_groups("r", ["due", "none"]))
    await do(store, lambda tx: tx.drop_alert_groups("q", ["due"]))
    assert await do(store, lambda tx: tx.alert_groups("r", [])) == []
    assert await do(store, lambda tx: tx.alerts_next()) == FAR


async def test_gathered_alerts_become_part_of_a_message(store: Store) -> None:
    """All of the group that wait do, but for the ones that end it, and those of other groups and routes."""
    rows = [alert(1), alert(2), alert(3, ends=True), alert(4, group="other"), alert(5, route="q"), alert(6)]
    await keep(store, *rows)
    await do(store, lambda tx: tx.set_alerts([row.uid for row in rows[:5]], "gathered"))

    assert await do(store, lambda tx: tx.tell_gathered("r", "g", "m")) == 2
    told = await do(store, lambda tx: tx.alerts_by_uid([row.uid for row in rows]))
    assert [told[row.uid].message for row in rows] == ["m", "m", None, None, None, None]
    assert [told[row.uid].state for row in rows] == ["told", "told", "gathered", "gathered", "gathered", "new"]


async def test_a_claim_hides_a_message_for_its_lease(store: Store) -> None:
    """Who claims has it alone; attempts rise; what was ended by an attempt that is not the last one changes nothing."""
    await send(store, message(1))
    (first,) = await claim(store)
    hidden = await claim(store)
    await end(store, first, "pending", next_at=1, error="down")
    (second,) = await claim(store)

    assert (first.attempts, second.attempts, hidden) == (1, 2, [])
    assert second.error == "down"
    assert await end(store, first, "sent") is False
    assert await end(store, second, "sent") is True
    assert await end(store, second, "sent") is False
    assert await do(store, lambda tx: tx.messages_waiting("r")) == {}


async def test_messages_of_a_group_reach_a_target_in_order(store: Store) -> None:
    """No end is told before its beginning: a later message waits for the earlier one, at each target by itself."""
    await send(store, message(1), message(2), message(2, target=1), message(3, group="other"), message(4, route="q"))
    claimed = await claim(store)
    await end(store, claimed[0], "pending", next_at=FAR, error="down")
    waiting = await do(store, lambda tx: tx.alerts_next())
    nothing = await claim(store)

    names = [(one.message, one.target) for one in claimed]
    assert names == [
        (message(1).message, 0),
        (message(2).message, 1),
        (message(3).message, 0),
        (message(4).message, 0),
    ]
    assert nothing == []
    assert waiting is not None
    assert waiting > T0  # not the message that must not go yet


async def test_claims_are_bounded(store: Store) -> None:
    """As many as asked for, those that are due longest first."""
    await send(store, *(message(n, group=f"g{n}", next_at=10 - n) for n in range(4)))

    assert [one.message for one in await claim(store, 2)] == [message(3).message, message(2).message]


@pytest.mark.parametrize(
    ("ends", "state", "reason"),
    [
        (("sent", "sent"), "sent", ""),
        (("sent", "failed"), "failed", "said 2"),
        (("failed", "sent"), "failed", "said 1"),
        (("failed", "failed"), "failed", "said 1"),
        (("sent", "suppressed"), "sent", ""),
        (("suppressed", "suppressed"), "suppressed", "said 1"),
    ],
)
async def test_an_alert_is_what_became_of_its_message(
    store: Store, ends: Sequence[str], state: str, reason: str
) -> None:
    """It is sent when all targets took the message, and failed as soon as all are done and one did not."""
    await keep(store, alert(1), alert(2))
    await send(store, message(1), message(1, target=1))
    await do(store, lambda tx: tx.set_alerts([uid(1)], "told", message(1).message))
    first, second = await claim(store)
    await end(store, first, ends[0], error="" if ends[0] == "sent" else "said 1")
    before = await states(store)
    await end(store, second, ends[1], error="" if ends[1] == "sent" else "said 2")

    assert before == [(uid(1), "pending"), (uid(2), "pending")]
    assert await states(store) == [(uid(1), state), (uid(2), "pending")]
    rows, _ = await store.read(lambda reader: reader.alerts(limit=10, state=state))
    assert rows[0]["reason"] == reason


async def test_a_route_that_is_gone_leaves_nothing_open(store: Store) -> None:
    """Alerts, groups and messages of it end, with the reason; what was done with stays as it was."""
    await keep(store, alert(1), alert(2), alert(3), alert(4), alert(5, route="q"))
    await do(store, lambda tx: tx.set_alerts([uid(2)], "gathered"))
    await do(store, lambda tx: tx.set_alerts([uid(3)], "told", message(1).message))
    await do(store, lambda tx: tx.set_alerts([uid(4)], "sent", message(2).message))
    await send(store, message(1), message(3, route="q"))
    await do(store, lambda tx: tx.put_alert_groups([AlertGroup("r", "g", "run_failed", True, 1, 1, "{}")]))

    assert await do(store, lambda tx: tx.suppress_route("r", "gone")) == 3
    assert [state for _, state in await states(store)] == ["suppressed"] * 3 + ["sent", "pending"]
    assert [one.route for one in await claim(store)] == ["q"]
    assert await do(store, lambda tx: tx.alert_groups("r", ["g"])) == []


async def test_what_could_not_be_delivered_is_told(store: Store) -> None:
    """By route: how many, since when, and what was said; what was never tried, or is done with, is not among them."""
    await send(store, message(1), message(2, group="h", made_at=T0 + 9), message(3, group="i"), message(4, route="q"))
    claimed = await claim(store)
    for one in claimed[:2]:
        await end(store, one, "pending", FAR, "answered 500")
    await end(store, claimed[2], "sent")

    assert await store.read(lambda reader: reader.undelivered()) == [Undelivered("r", 2, T0, "answered 500")]
    assert await do(store, lambda tx: tx.undelivered()) == [Undelivered("r", 2, T0, "answered 500")]


async def test_lists_page_and_filter(store: Store) -> None:
    """Newest first, page by page, by route, kind and state as people see it; each with its deliveries."""
    await keep(store, *[alert(n) for n in range(5)], alert(5, route="q", kind="dead_letter"))
    await send(store, message(1))
    await do(store, lambda tx: tx.set_alerts([uid(0)], "told", message(1).message))
    await do(store, lambda tx: tx.set_alerts([uid(1)], "suppressed", reason="it was over"))
    (claimed,) = await claim(store)
    await end(store, claimed, "pending", FAR, "down")
    found: list[str] = []
    cursor = None
    while True:
        rows, cursor = await store.read(lambda reader, at=cursor: reader.alerts(limit=2, cursor=at, route="r"))  # type: ignore[misc]
        found += [row["uid"] for row in rows]
        if cursor is None:
            break
    told, _ = await store.read(lambda reader: reader.alerts(limit=1, state="suppressed"))
    letters, _ = await store.read(lambda reader: reader.alerts(limit=9, kind="dead_letter"))
    pending, _ = await store.read(lambda reader: reader.alerts(limit=9, state="pending"))

    assert found == [uid(n) for n in (4, 3, 2, 1, 0)]
    assert [(row["uid"], row["reason"]) for row in told] == [(uid(1), "it was over")]
    assert [row["route"] for row in letters] == ["q"]
    assert len(pending) == 5
    assert pending[-1]["deliveries"] == [
        {"target": 0, "state": "pending", "attempts": 1, "error": "down", "next_at": FAR, "done_at": None}
    ]
    with pytest.raises(BadCursor):
        await store.read(lambda reader: reader.alerts(limit=2, cursor="nonsense"))


async def test_pruning_forgets_what_is_done_with(store: Store) -> None:
    """Old alerts and messages that are settled go, and old groups in which nothing waits; nothing that waits goes."""
    await keep(store, *[alert(n) for n in range(4)], alert(9_000_000))
    await do(store, lambda tx: tx.set_alerts([uid(0), uid(9_000_000)], "sent", "m"))
    await do(store, lambda tx: tx.set_alerts([uid(1)], "suppressed"))
    await do(store, lambda tx: tx.set_alerts([uid(2)], "gathered"))
    await send(store, message(0), message(1, group="h"))
    (first, _) = await claim(store)
    await end(store, first, "sent")
    groups = [AlertGroup("r", key, "run_failed", True, T0, FAR, "{}") for key in ("", "g", "quiet")]
    await do(store, lambda tx: tx.put_alert_groups(groups))

    assert await do(store, lambda tx: tx.prune("alerts", T0 + 1_000_000, 1)) == 2
    assert await do(store, lambda tx: tx.prune("alerts", T0 + 1_000_000, 10)) == 1
    assert [name for name, _ in await states(store)] == [uid(2), uid(3), uid(9_000_000)]
    assert await do(store, lambda tx: tx.messages_waiting("r")) == {0: 1}
    assert [one.key for one in await do(store, lambda tx: tx.alert_groups("r", ["g", "quiet"]))] == ["g"]
