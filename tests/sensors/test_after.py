"""What is done to objects after their runs, against a source in memory that can fail at every step."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sensors.adapters.after import Outcome, Plan, perform, plan_of, tagged_by_us, work_off
from sensors.adapters.after_options import After
from sensors.adapters.destination import compile_template
from sensors.adapters.objects import Listed
from sensors.batch import Batch, ObjectAction, SeenObject
from sensors.errors import BackOff, BadPayload, NotConnected
from sensors.event import Event
from sensors.listing import DELETED, PRESENT
from sensors.patterns import compile_pattern
from sensors.testing import FakeInbox
from tests.support.object_source import MemoryObjects, Stored

T0 = 1_769_839_200_000_000
NOW = T0 + 60_000_000
KINDS = ("move", "copy", "delete", "tag")


class MetadataObjects(MemoryObjects):
    """An object storage where tags are metadata, which changes etag and modification."""

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Add metadata."""
        await self._ask("tag", key)
        stored = self.objects.get(key)
        if stored is not None and stored.etag == etag:
            merged = {**stored.metadata, **tags}
            self.objects[key] = Stored(stored.body, f"{etag}'", stored.modified + 1_000_000, metadata=merged)


def made(factory: type[MemoryObjects] = MemoryObjects) -> MemoryObjects:
    """Return a source with one object."""
    source = factory(lambda: T0)
    source.put("in/a.csv", b"one")
    return source


def memory(listed: Listed) -> SeenObject:
    """Return what is remembered of an object."""
    return SeenObject(listed.key, listed.token, 2, PRESENT, T0, T0, "{}")


def action(listed: Listed, what: Any = "move", uid: str = "act_1", **fields: Any) -> ObjectAction:
    """Return an action on an object."""
    base: dict[str, Any] = {"to": "archive/a.csv" if what in ("move", "copy") else "", "when": "succeeded"}
    tags = {"State": "loaded"} if what == "tag" else {}
    return ObjectAction(uid, "evt_1", listed.key, listed.etag, what, created_at=T0, tags=tags, **{**base, **fields})


def event(uid: str = "evt_1", key: str = "in/a.csv") -> Event:
    """Return an event."""
    return Event(sensor="s", id=f"{key}@1", uid=uid, source="mem", type="object.created", received_at=T0)


# -- plans -------------------------------------------------------------------------------------------------------------
def test_a_plan_names_version_and_destination() -> None:
    """The action holds the object's etag, the event's uid and moment, and a destination that is fixed for ever."""
    pattern = compile_pattern("in/{customer}.csv")
    plan = plan_of(After(do="move", to="done/{customer}/{%Y}/{name}", when="accepted"), pattern)
    assert plan is not None
    one, two = [plan(event(), Listed("in/a.csv", 3, "e1", T0)) for _ in range(2)]

    assert replace(one, uid="") == ObjectAction(
        "", "evt_1", "in/a.csv", "e1", "move", "accepted", T0, "done/a/2026/a.csv", {}
    )
    assert one.uid.startswith("act_")
    assert one.uid != two.uid


def test_no_options_no_plan() -> None:
    """Nothing is planned unless it is said."""
    assert plan_of(None, None) is None
    deleting = Plan("delete", "now")(event(), Listed("in/a.csv", 3, "e1", T0))
    assert (deleting.what, deleting.when, deleting.to) == ("delete", "now", "")


# -- one action --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", KINDS)
async def test_it_is_done(what: str) -> None:
    """Each kind does what it says; what we take away is remembered as deleted, with its incarnation."""
    source = made()
    listed = source.listed("in/a.csv")
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert outcome.result == "done"
    assert (
        sorted(source.objects)
        == {
            "move": ["archive/a.csv"],
            "copy": ["archive/a.csv", "in/a.csv"],
            "delete": [],
            "tag": ["in/a.csv"],
        }[what]
    )
    if what in ("move", "delete"):
        assert outcome.seen == replace(memory(listed), state=DELETED, last_changed=NOW)
    else:
        assert outcome.seen is None
    if what == "tag":
        assert source.objects["in/a.csv"].tags == {"State": "loaded"}


@pytest.mark.parametrize("what", KINDS)
async def test_twice_is_once(what: str) -> None:
    """Performed again, as after a crash before the commit, it is done with the same end."""
    source = made()
    listed = source.listed("in/a.csv")
    first = await perform(action(listed, what), source, memory(listed), NOW)
    there = dict(source.objects)
    second = await perform(action(listed, what), source, memory(listed), NOW)

    assert second == first
    assert source.objects == there


def _die_at(source: MemoryObjects, call: int, error: Exception) -> None:
    """Make one call of the source fail."""
    asked = source._ask

    async def ask(method: str, key: str = "") -> None:
        if len(source.asked) == call:
            source.asked.append((method, key))
            raise error
        await asked(method, key)

    source._ask = ask  # type: ignore[method-assign]


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("error", [NotConnected("gone"), BackOff("slow down", 2.0)])
async def test_dying_between_any_two_calls_is_harmless(what: str, error: Exception) -> None:
    """Whichever call fails, the same action again ends as if nothing had happened."""
    whole = made()
    listed = whole.listed("in/a.csv")
    wanted = await perform(action(listed, what), whole, memory(listed), NOW)
    calls = len(whole.asked)
    assert calls >= 3
    for dies_at in range(calls):
        source = made()
        _die_at(source, dies_at, error)
        with pytest.raises(type(error)):
            await perform(action(listed, what), source, memory(listed), NOW)
        assert await perform(action(listed, what), source, memory(listed), NOW) == wanted
        assert sorted(source.objects) == sorted(whole.objects)


@pytest.mark.parametrize("what", KINDS)
async def test_a_new_version_is_never_touched(what: str) -> None:
    """An object that was overwritten since its event stays as it is: its own event has an action of its own."""
    source = made()
    listed = source.listed("in/a.csv")
    source.put("in/a.csv", b"two", modified=T0 + 5_000_000)
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert (outcome.result, outcome.seen) == ("superseded", None)
    assert {key: stored.body for key, stored in source.objects.items()} == {"in/a.csv": b"two"}
    assert source.objects["in/a.csv"].tags == {}


@pytest.mark.parametrize("what", KINDS)
async def test_the_same_content_again_is_another_version(what: str) -> None:
    """An upload of the same bytes, which a scan has yet to see, is not taken for the version that was told of."""
    source = made()
    listed = source.listed("in/a.csv")
    source.put("in/a.csv", b"one", modified=T0 + 5_000_000)
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert outcome.result == "superseded"
    assert list(source.objects) == ["in/a.csv"]


@pytest.mark.parametrize("what", KINDS)
async def test_overwritten_in_the_middle(what: str) -> None:
    """A new version that comes between our look and our deed stays, and what is remembered is not changed."""
    source = made()
    listed = source.listed("in/a.csv")
    asked = source._ask

    async def ask(method: str, key: str = "") -> None:
        if method == what:
            source.put("in/a.csv", b"two, longer", modified=T0 + 5_000_000)
        await asked(method, key)

    source._ask = ask  # type: ignore[method-assign]
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert (outcome.result, outcome.seen) == ("superseded", None)
    assert source.objects["in/a.csv"].body == b"two, longer"
    assert source.objects["in/a.csv"].tags == {}


@pytest.mark.parametrize(("what", "result"), [("move", "gone"), ("copy", "gone"), ("tag", "gone"), ("delete", "done")])
async def test_taken_away_by_somebody_else(what: str, result: str) -> None:
    """An object that is gone and was not taken to its destination was somebody's; only deleting is done by that."""
    source = made()
    listed = source.listed("in/a.csv")
    source.remove("in/a.csv")
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert outcome.result == result
    assert (outcome.seen is not None) == (what == "delete")
    assert source.objects == {}


async def test_a_version_that_came_after_ours_is_not_forgotten() -> None:
    """When the memory holds a newer version by now, taking ours away changes nothing in it."""
    source = made()
    listed = source.listed("in/a.csv")
    source.remove("in/a.csv")
    newer = memory(replace(listed, etag="e2"))

    assert await perform(action(listed, "delete"), source, newer, NOW) == Outcome("done")
    assert await perform(action(listed, "delete"), source, None, NOW) == Outcome("done")


async def test_tags_that_change_the_version_are_no_news() -> None:
    """Where tagging makes a new version, that version is what is remembered, also when the answer was lost."""
    source = made(MetadataObjects)
    listed = source.listed("in/a.csv")
    source.fail["head"] = []
    first = await perform(action(listed, "tag"), source, memory(listed), NOW)
    again = await perform(action(listed, "tag"), source, memory(listed), NOW)
    new = source.listed("in/a.csv")

    assert new.token != listed.token
    assert first == again == Outcome("done", replace(memory(listed), token=new.token, last_changed=NOW))
    assert [method for method, _ in source.asked].count("tag") == 1


async def test_an_upload_after_our_tags_is_news() -> None:
    """A version without our tags is somebody's, whatever we have tagged before."""
    source = made(MetadataObjects)
    listed = source.listed("in/a.csv")
    tagging = action(listed, "tag")
    await perform(tagging, source, memory(listed), NOW)
    ours = await source.head("in/a.csv", details=True)
    source.put("in/a.csv", b"one", etag="e9", metadata={"other": "x"})
    theirs = await source.head("in/a.csv", details=True)
    assert ours is not None
    assert theirs is not None

    assert tagged_by_us(tagging, ours)
    assert tagged_by_us(tagging, replace(ours, metadata={"state": "loaded"}))  # names may come back in small letters
    assert not tagged_by_us(tagging, theirs)
    assert not tagged_by_us(tagging, replace(theirs, tags={"State": "loaded"}))  # real tags make no other version
    assert (await perform(tagging, source, memory(listed), NOW)).result == "superseded"


@pytest.mark.parametrize("to", ["", "in/a.csv", "x" * 1025])
@pytest.mark.parametrize("what", ["move", "copy"])
async def test_impossible_destinations_fail_before_anything_is_done(what: str, to: str) -> None:
    """An object is never taken to itself, to no key, or to a key that no storage takes."""
    source = made()
    listed = source.listed("in/a.csv")
    outcome = await perform(action(listed, what, to=to), source, memory(listed), NOW)

    assert outcome.result == "failed"
    assert source.asked == []


@pytest.mark.parametrize("what", KINDS)
async def test_what_the_source_refuses_for_ever_has_failed(what: str) -> None:
    """What can never be done says why; the object stays."""
    source = made()
    listed = source.listed("in/a.csv")
    source.fail[what] = [BadPayload("in/a.csv has too many tags")]
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert outcome == Outcome("failed", detail="in/a.csv has too many tags")
    assert list(source.objects) == ["in/a.csv"]


@pytest.mark.parametrize("what", ["move", "delete"])
async def test_a_source_that_only_says_it_did_is_found_out(what: str) -> None:
    """An object that is still there, the same as before, was not taken away."""

    class Locked(MemoryObjects):
        async def move(self, key: str, etag: str, to: str) -> None:
            """Do nothing."""

        async def delete(self, key: str, etag: str) -> None:
            """Do nothing."""

    source = made(Locked)
    listed = source.listed("in/a.csv")
    outcome = await perform(action(listed, what), source, memory(listed), NOW)

    assert (outcome.result, outcome.seen) == ("failed", None)


# -- all that is due ---------------------------------------------------------------------------------------------------
async def prepared(source: MemoryObjects, *names: str, what: Any = "move") -> FakeInbox:
    """Return an inbox that holds an event, its memory and its action for each of these objects."""
    inbox = FakeInbox()
    plan = Plan(what, "succeeded", compile_template("archive/{name}", ()) if what == "move" else None)
    for name in names:
        listed = source.put(f"in/{name}", name.encode())
        told = event(f"evt_{name}", listed.key)
        await inbox.put("s", Batch((told,), seen=[memory(listed)], actions=[plan(told, listed)]))
    return inbox


async def test_working_off_what_is_due() -> None:
    """Only actions whose time has come are performed; the batch ends them together with what must be remembered."""
    source = MemoryObjects(lambda: T0)
    inbox = await prepared(source, "a", "b", "c")
    lookup = inbox.lookup("s")
    nothing = await work_off(lookup, source, NOW)
    inbox.runs |= {"evt_a": "succeeded", "evt_b": "succeeded", "evt_c": "accepted"}
    batch = await work_off(lookup, source, NOW)
    await inbox.put("s", batch)
    after = await work_off(lookup, source, NOW)

    assert nothing.empty
    assert sorted(source.objects) == ["archive/a", "archive/b", "in/c"]
    assert batch.counts == {"after_done": 2}
    assert {seen.key: seen.state for seen in batch.seen} == {"in/a": DELETED, "in/b": DELETED}
    assert len(batch.actions_done) == 2
    assert after.empty
    assert list(await lookup.open_actions(["in/a", "in/c"])) == ["in/c"]


async def test_a_later_event_supersedes_an_earlier_one() -> None:
    """Of two open actions on one object the earlier one is never performed: a later run may still need the object."""
    source = MemoryObjects(lambda: T0)
    inbox = await prepared(source, "a")
    listed = source.listed("in/a")
    later = action(listed, uid="act_z")
    await inbox.put("s", Batch((event("evt_later", "in/later"),), actions=[replace(later, event="evt_later")]))
    inbox.runs |= {"evt_a": "succeeded", "evt_later": "accepted"}
    batch = await work_off(inbox.lookup("s"), source, NOW)

    assert batch.counts == {"after_superseded": 1}
    assert batch.actions_done != ["act_z"]
    assert list(source.objects) == ["in/a"]


async def test_one_that_cannot_be_asked_about_holds_nobody_up() -> None:
    """An action whose object cannot be looked at stays open; the others are done."""
    source = MemoryObjects(lambda: T0)
    inbox = await prepared(source, "a", "b")
    inbox.runs |= {"evt_a": "succeeded", "evt_b": "succeeded"}
    source.broken["in/a"] = NotConnected("denied")
    batch = await work_off(inbox.lookup("s"), source, NOW)
    await inbox.put("s", batch)

    assert batch.counts == {"after_done": 1}
    with pytest.raises(NotConnected, match="denied"):
        await work_off(inbox.lookup("s"), source, NOW)
    del source.broken["in/a"]
    assert (await work_off(inbox.lookup("s"), source, NOW)).counts == {"after_done": 1}


async def test_what_can_never_be_done_is_a_dead_letter() -> None:
    """It is told with its reason and its event, and is not tried for ever."""
    source = MemoryObjects(lambda: T0)
    inbox = await prepared(source, "a", what="delete")
    inbox.runs["evt_a"] = "succeeded"
    source.fail["delete"] = [BadPayload("in/a is under a legal hold")]
    batch = await work_off(inbox.lookup("s"), source, NOW)
    await inbox.put("s", batch)

    (letter,) = batch.dead_letters
    assert (letter.reason, letter.position, letter.event_uid) == ("after_failed", "in/a", "evt_a")
    assert letter.detail == "could not delete 'in/a': in/a is under a legal hold"
    assert batch.counts == {"after_failed": 1}
    assert (await work_off(inbox.lookup("s"), source, NOW)).empty


async def test_our_own_mistakes_are_loud() -> None:
    """An error that is none of the source's is not swallowed, whatever else was done."""
    source = MemoryObjects(lambda: T0)
    inbox = await prepared(source, "a", "b")
    inbox.runs |= {"evt_a": "succeeded", "evt_b": "succeeded"}
    source.broken["in/a"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        await work_off(inbox.lookup("s"), source, NOW)
