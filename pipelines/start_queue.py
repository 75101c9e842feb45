"""What may start, in which order: ready task runs by task, tasks in the order of the graph.

In flow labels of task runs that may start and of those that wait for a moment; out flow, one by one, those that start
now. A task that is at its own limit (`max_parallel`, a pool without room) is set aside at no further cost until
something of it ends. Every operation costs the logarithm of what waits, so that ten thousand slices cost ten thousand.
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush


class StartQueue:
    """The waiting task runs of one run. `place` gives a task's place in the graph's order."""

    __slots__ = ("_due", "_heap", "_lanes", "_listed", "_place")

    def __init__(self, place: Callable[[str], int]) -> None:
        self._place = place
        self._lanes: dict[str, deque[str]] = {}
        self._heap: list[tuple[int, str]] = []  # tasks that have ready task runs and are not set aside
        self._listed: set[str] = set()
        self._due: list[tuple[int, str, str]] = []

    def add(self, task: str, label: str, *, first: bool = False) -> None:
        """Note that a task run may start; `first`: before the others of its task."""
        lane = self._lanes.setdefault(task, deque())
        if first:
            lane.appendleft(label)
        else:
            lane.append(label)
        self.look_again(task)

    def look_again(self, task: str) -> None:
        """Note that a task which was set aside may have room again."""
        if task not in self._listed and self._lanes.get(task):
            self._listed.add(task)
            heappush(self._heap, (self._place(task), task))

    def look_at_all(self) -> None:
        """Note that any task may have room again."""
        for task in self._lanes:
            self.look_again(task)

    def wait(self, until: int, task: str, label: str) -> None:
        """Note that a task run may start from a moment on."""
        heappush(self._due, (until, task, label))

    def due(self, at: int) -> Iterator[tuple[str, str]]:
        """Take out task and label of what may start by now."""
        while self._due and self._due[0][0] <= at:
            _, task, label = heappop(self._due)
            yield task, label

    def next_due(self) -> int | None:
        """Return the earliest moment that anything waits for (it may have ended since)."""
        return self._due[0][0] if self._due else None

    def take(self, waiting: Callable[[str], bool], room: Callable[[str, str], bool]) -> Iterator[str]:
        """Take out, in order, what starts now. The caller stops asking when nothing more may start.

        `waiting` says whether a label still waits to start; `room` (of a task, for a label) whether its own limits let
        it start: where they do not, the task is set aside.
        """
        while self._heap:
            _, task = self._heap[0]
            lane = self._lanes[task]
            while lane and not waiting(lane[0]):
                lane.popleft()
            if lane and room(task, lane[0]):
                yield lane.popleft()
                continue
            heappop(self._heap)
            self._listed.discard(task)
            if not lane:
                del self._lanes[task]
