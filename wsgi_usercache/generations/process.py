"""Has it changed? Asked by the threads of one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from time import monotonic
from typing import ClassVar

from . import SLOTS, Moment


class ProcessGenerations:
    """Numbers in a list, marks counted in a dict under a lock; readers take no lock.

    A reader looks for the mark first, then at the number: if it saw no mark because the change had
    not begun, the number it read is one that the change replaces; if because the change was over,
    the number is already the new one.
    """

    reaches_processes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        settle: float = 10.0,  # seconds for which a COMMIT whose answer was lost may still run
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settle = settle
        self._clock = clock
        self._last = 1
        self._numbers = [1] * (SLOTS + 1)
        self._marks: dict[int, int] = {}
        self._lost: list[tuple[float, tuple[int, ...]]] = []
        # Reentrant, for a collected generator may end its transaction in the middle of anything.
        self._lock = RLock()
        self.changes = 0

    def current(self, slots: Sequence[int]) -> tuple[int, ...]:
        if self._lost:
            self._settle_lost()
        marks, numbers = self._marks, self._numbers
        return tuple([0 if slot in marks else numbers[slot] for slot in slots])

    def changing(self, slots: Sequence[int]) -> ProcessFence:
        distinct = tuple(set(slots))
        with self._lock:
            for slot in distinct:
                self._marks[slot] = self._marks.get(slot, 0) + 1
        return ProcessFence(self, distinct)

    def bump(self, slots: Iterable[int]) -> None:
        with self._lock:
            self._bump(slots)
            self.changes += 1

    def moment(self) -> Moment:
        return (self._last,)

    def unchanged_since(self, moment: Moment, slots: Sequence[int]) -> bool:
        return all(0 < number <= moment[0] for number in self.current(slots))

    def after_fork(self) -> None:
        """Make the child's copy its own: who held the lock, or was changing something, is not in
        it. Those changes are lost sight of."""
        self._lock = RLock()
        marks = tuple(self._marks)
        self._marks = dict.fromkeys(marks, 1)
        self._lost = [(self._clock() + self._settle, marks)] if marks else []

    def close(self) -> None:
        """Nothing was taken."""

    def end(self, slots: tuple[int, ...], *, changed: bool) -> None:
        """Take one mark off each slot, once the numbers are new if anything *changed*."""
        with self._lock:
            if changed:
                self._bump(slots)
                self.changes += 1
            self._lower(slots)

    def end_later(self, slots: tuple[int, ...]) -> None:
        """New numbers and marks down once *settle* has passed; the next reader does it."""
        with self._lock:
            self._lost.append((self._clock() + self._settle, slots))

    def _settle_lost(self) -> None:
        with self._lock:
            now = self._clock()
            due = [slots for until, slots in self._lost if until <= now]
            self._lost = [later for later in self._lost if later[0] > now]
            for slots in due:
                self.end(slots, changed=True)

    def _bump(self, slots: Iterable[int]) -> None:
        # Under the lock: who stores its number twice, another's in between, would bring it back.
        self._last += 1
        for slot in slots:
            self._numbers[slot] = self._last

    def _lower(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if self._marks[slot] > 1:
                self._marks[slot] -= 1
            else:
                del self._marks[slot]


class ProcessFence:
    """The marks of one change."""

    def __init__(self, generations: ProcessGenerations, slots: tuple[int, ...]) -> None:
        self._generations = generations
        self._slots = slots
        self._pid = os.getpid()

    def changed(self) -> None:
        if self._is_ours():
            self._generations.end(self._slots, changed=True)
        else:
            self._generations.bump(self._slots)

    def unchanged(self) -> None:
        if self._is_ours():
            self._generations.end(self._slots, changed=False)

    def lost(self) -> None:
        if self._is_ours():
            self._generations.end_later(self._slots)

    def _is_ours(self) -> bool:
        """Whether the marks are those this fence raised: a child has settled its parent's."""
        return self._pid == os.getpid()
