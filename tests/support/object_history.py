"""What really happened to objects, and what a sensor's events say of it: the promises, checked against the truth.

In flow the truth after each write (token by key), and the events that became durable, in their order; out flow
`AssertionError`s with the story of the key. A life of a key is the time for which one version of it was there; moments
are counted, not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensors.batch import SeenObject
from sensors.event import Event
from sensors.listing import PRESENT


@dataclass(slots=True)
class Life:
    """One version of a key was there from `since` until `until`, which was already too late."""

    token: str
    since: int
    until: int | None = None

    def __str__(self) -> str:
        return f"{self.token} from {self.since} until {'now' if self.until is None else self.until}"


@dataclass(slots=True)
class History:
    """All lives of all keys, and at which moment we are."""

    moment: int = 0
    lives: dict[str, list[Life]] = field(default_factory=dict)
    renamed: set[str] = field(default_factory=set)  # keys that went away under another name at some time

    def learn(self, truth: Mapping[str, str]) -> None:
        """Take in what is there now; to be called after each write."""
        self.moment += 1
        for key, lives in self.lives.items():
            if lives[-1].until is None and truth.get(key) != lives[-1].token:
                lives[-1].until = self.moment
        for key, token in truth.items():
            lives = self.lives.setdefault(key, [])
            if not lives or lives[-1].until is not None:
                lives.append(Life(token, self.moment))

    def current(self, key: str) -> Life | None:
        """Return the life that lasts, None when nothing is there."""
        last = self.lives[key][-1]
        return last if last.until is None else None

    def was_absent(self, key: str, since: int) -> bool:
        """Say whether nothing was there at some moment since then."""
        lives = self.lives[key]
        ends = [life.since for life in lives[1:]] + [self.moment + 1]
        return any(
            life.until is not None and end > life.until and end > since for life, end in zip(lives, ends, strict=True)
        )


@dataclass(slots=True)
class Told:
    """What the events said of one key: (life it told of, whether of its end), in order."""

    lives: list[tuple[int, bool]] = field(default_factory=list)


def _modified(token: str) -> int:
    """Return the time of modification, with which a token ends."""
    return int(token.rpartition("+")[2])


class Promises:
    """Reads events as they become durable, and holds them against the history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._told: dict[str, Told] = {}
        self._read = 0

    def read(self, events: Sequence[Event], begun: int) -> None:
        """Read what is new. `begun` is the moment at which the scan began that may still be under way."""
        for event in events[self._read :]:
            self._read += 1
            self._one(event, begun)

    def _one(self, event: Event, begun: int) -> None:
        key = event.subject or ""
        version, _, end = event.id.rpartition("#")
        number, _, deleted = end.partition("!")
        assert number.isdecimal(), event.id
        assert version.startswith(f"{key}@"), event.id
        assert key in self._history.lives, f"{event.id}: there never was such a key"
        token = version[len(key) + 1 :]
        lives, told = self._history.lives[key], self._told.setdefault(key, Told())
        last = told.lives[-1] if told.lives else (-1, False)
        story = f"{event.type} {event.id}\n{self.story(key)}"
        raised = self._raised(lives, told.lives, token)
        renamed = key in self._history.renamed and int(number) > raised
        assert int(number) == raised or renamed, f"wrong number: {story}"
        if deleted:
            assert event.type == "object.deleted", story
            assert last[0] >= 0, f"the end of what was never told: {story}"
            assert not last[1], f"the end is told twice: {story}"
            assert lives[last[0]].token == token, f"the end of another version than was told last: {story}"
            assert self._history.was_absent(key, begun), f"the end of what was always there: {story}"
            told.lives.append((last[0], True))
            return
        of = next((n for n in range(last[0] + 1, len(lives)) if lives[n].token == token), None)
        assert of is not None, f"told twice, out of order, or never there: {story}"
        told.lives.append((of, False))

    @staticmethod
    def _raised(lives: Sequence[Life], told: Sequence[tuple[int, bool]], token: str) -> int:
        """Return the number that the next event of a key must have.

        It counts the ends that were told, and the versions that took the place of one that was not older.
        """
        number, before = 0, ""
        for of, ended in [*told, (-1, False)]:
            after = token if of < 0 else lives[of].token
            if ended:
                number, before = number + 1, ""
            elif before and after != before and _modified(after) <= _modified(before):
                number, before = number + 1, after
            else:
                before = after
        return number

    def complete(self, memory: Mapping[str, SeenObject], begun: int) -> None:
        """Check that all that was there before `begun`, and still is, was told, and is remembered."""
        for key, lives in self._history.lives.items():
            life = self._history.current(key)
            if life is None or life.since >= begun:
                continue
            told = self._told.get(key, Told()).lives
            assert told, f"never told: {self.story(key)}"
            assert memory[key].state == PRESENT, f"remembered as {memory[key].state}: {self.story(key)}"
            assert memory[key].token == life.token, f"remembered in another version: {self.story(key)}"
            last, ended = told[-1]
            assert not ended, f"told as deleted: {self.story(key)}"
            assert lives[last].token == life.token, f"the version that is there was not told last: {self.story(key)}"

    def gone(self, memory: Mapping[str, SeenObject], begun: int) -> None:
        """Check that all that was gone before `begun`, and still is, is remembered as gone and was told to be."""
        for key, lives in self._history.lives.items():
            until = lives[-1].until
            if until is None or until >= begun:
                continue
            assert key not in memory or memory[key].state != PRESENT, f"remembered as present: {self.story(key)}"
            told = self._told.get(key, Told()).lives
            if told and key not in self._history.renamed:
                assert told[-1][1], f"not told to be gone: {self.story(key)}"

    def story(self, key: str) -> str:
        """Tell all of a key."""
        lives = "; ".join(f"[{n}] {life}" for n, life in enumerate(self._history.lives[key]))
        told = ", ".join(f"{'end of ' if ended else ''}[{of}]" for of, ended in self._told.get(key, Told()).lives)
        return f"{key!r} was: {lives}; told: {told or 'nothing'}; now is {self._history.moment}"
