"""One look at a manifest: is it still there, what does it list, and is all of that there?

In flow manifests that wait, out flow verdicts. A look asks in bounded steps and can be continued: a manifest of
thousands of files never holds up what else there is to do. An error leaves the wait as it was, or further.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeGuard

from sensors.adapters.heads import heads
from sensors.adapters.manifest_text import MAX_BYTES, Expression, Unreadable, listed_keys
from sensors.adapters.object_steps import ObjectChange
from sensors.adapters.objects import Listed, ObjectSource
from sensors.adapters.sets_state import Kept
from sensors.batch import SeenObject
from sensors.errors import BadPayload, NotConnected
from sensors.listing import Change, Entry, What

STEP: Final = 2_000  # looks at objects in one call
_PART: Final = 250
_PROBE: Final = 50  # of what was missing before, so many are looked at together; one that still is ends the look
_NAMED: Final = 5

Verdict = Literal["complete", "waits", "gone", "more"] | Unreadable


@dataclass(slots=True)
class Run:
    """A look under way, and how far it is. `whole`: all keys are asked for, so that `found` is the set at the end."""

    keys: Sequence[str]
    whole: bool
    at: int = 0
    found: dict[str, Listed] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Waiting:
    """A manifest whose files are not known to be there.

    `since` in UTC micros, `due` in seconds of the monotonic clock. `missing` are the keys that were not there when they
    were looked for; None while that is not known, and then `lacking` and `named` tell how many, and the first of them.
    """

    seen: SeenObject
    what: What
    since: int
    due: float
    missing: set[str] | None = None
    total: int = 0
    lacking: int = 0
    named: Sequence[str] = ()
    listed: Listed | None = None
    run: Run | None = None
    members: Sequence[Listed] = ()
    denied: str = ""  # why it, or one of its files, could not be looked at although the source is there

    @property
    def kept(self) -> Kept:
        """Return what is durable of it."""
        return Kept(self.seen, self.what, self.since)

    @property
    def change(self) -> ObjectChange:
        """Return the change of the manifest, as it was at the last look."""
        entry = None
        if self.listed is not None:
            entry = Entry(self.listed.key, self.listed.token, self.listed.modified, self.listed)
        return Change(self.what, entry, self.seen)

    def came(self, key: str) -> None:
        """Note that a file was seen."""
        if self.missing:
            self.missing.discard(key)

    @property
    def lack(self) -> tuple[int, Sequence[str]]:
        """Return how many files are missing, and the names of the first of them."""
        if self.missing is None:
            return self.lacking, self.named
        return len(self.missing), heapq.nsmallest(_NAMED, self.missing)

    def forget_missing(self) -> None:
        """Keep only what sentences need; the next look asks for all files again."""
        self.lacking, self.named = self.lack
        self.missing = None

    def replaced(self, listed: Listed, now: int) -> None:
        """Begin anew: another version of the manifest is there."""
        self.seen = replace(self.seen, token=listed.token, last_changed=now)
        self.since = now
        self.missing, self.run, self.lacking, self.named = None, None, 0, ()


def is_there(listed: Listed | None, min_size: int) -> TypeGuard[Listed]:
    """Say whether a file is there, and not smaller than files are to be."""
    return listed is not None and listed.size >= min_size


class Budget:
    """How many looks at objects are left in this call."""

    def __init__(self, left: int = STEP) -> None:
        self.left = left


@dataclass(frozen=True, slots=True)
class Form:
    """How manifests are read. `min_size`: a smaller file counts as missing."""

    files: Expression | None
    base: Literal["manifest", "bucket"]
    min_size: int


class ManifestLook:
    """Looks at manifests of one source."""

    def __init__(self, source: ObjectSource, form: Form) -> None:
        self._source = source
        self._form = form

    async def look(self, wait: Waiting, now: int, budget: Budget) -> Verdict:
        """Begin or continue a look. `now` in UTC micros.

        `complete`: all files are there, `wait.members` are they. `waits`: some are not. `gone`: the manifest is not
        there any more. `more`: the budget is used up. Otherwise the sentence that says why it cannot be used.
        """
        try:
            return await self._looked(wait, now, budget)
        except Unreadable as error:
            return error
        except BadPayload as error:  # this one manifest cannot be read
            wait.run, wait.missing, wait.denied = None, None, str(error)
            return "waits"
        except NotConnected as error:
            # A manifest may name what must not be looked at; that is no reason to take the source for gone.
            await self._source.head(wait.seen.key)
            wait.run, wait.missing, wait.denied = None, None, str(error)
            return "waits"

    async def _looked(self, wait: Waiting, now: int, budget: Budget) -> Verdict:
        if wait.run is None:
            wait.denied = ""
        while True:
            if budget.left <= 0:
                return "more"
            if wait.run is None:
                verdict = await self._begin(wait, now, budget)
                if verdict is not None:
                    return verdict
                continue
            run = wait.run
            if not await self._ask(wait, run, budget):
                return "more"
            wait.run = None
            if wait.missing:
                return "waits"
            if run.whole and len(run.found) == len(run.keys):  # what came during the look is asked for once more
                wait.members = [run.found[key] for key in run.keys]
                return "complete"

    async def names(self, listed: Listed) -> Sequence[str] | None:
        """Return the keys that a manifest lists; None when it is not this version any more. Raises Unreadable."""
        key = listed.key
        if listed.size > MAX_BYTES:
            raise Unreadable(f"it has {listed.size} bytes, {MAX_BYTES} are allowed")
        raw = await self._source.read(key, 0, MAX_BYTES + 1)
        again = await self._source.head(key)
        if again is None or again.token != listed.token:
            return None
        if len(raw) > MAX_BYTES:
            raise Unreadable(f"it has more than {MAX_BYTES} bytes")
        folder = key[: key.rfind("/") + 1] if self._form.base == "manifest" else ""
        return listed_keys(raw, self._form.files, folder, self._source.place)

    async def _begin(self, wait: Waiting, now: int, budget: Budget) -> Verdict | None:
        """Look at the manifest itself and say what to ask for; a verdict where that is clear already."""
        budget.left -= 1
        listed = await self._source.head(wait.seen.key)
        if listed is None:
            return "gone"
        if listed.token != wait.seen.token:
            wait.replaced(listed, now)
        wait.listed = listed
        if wait.missing:
            wait.run = Run(sorted(wait.missing, key=str.encode), whole=False)
            return None
        if listed.size == 0:  # made, and not written yet
            return "waits"
        names = await self.names(listed)
        if names is None:  # it has just been written again; it will be looked at once more
            return "more"
        wait.missing, wait.total = set(), len(names)
        wait.run = Run(names, whole=True)
        return None

    async def _ask(self, wait: Waiting, run: Run, budget: Budget) -> bool:
        """Ask for keys until all are answered, or enough is known; False when the budget is used up before."""
        missing = wait.missing if wait.missing is not None else set()
        wait.missing = missing
        while run.at < len(run.keys):
            if budget.left <= 0:
                return False
            part = run.keys[run.at : run.at + min(_PART if run.whole else _PROBE, budget.left)]
            looked = await heads(self._source, part)
            run.at += len(part)
            budget.left -= len(part)
            absent = False
            for key, listed in looked.items():
                if is_there(listed, self._form.min_size):
                    missing.discard(key)
                    run.found[key] = listed
                else:
                    missing.add(key)
                    absent = True
            if absent and not run.whole:
                return True
        return True
