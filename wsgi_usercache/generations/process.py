"""Has it changed? Asked by the threads of one process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock
from time import monotonic

from . import SLOTS


class ProcessGenerations:
    """Numbers in a list, marks in a counter under a lock; readers take no lock.

    A reader looks for the mark first, then at the number: if it saw no mark because the change had
    not begun, the number it read is one that the change replaces; if because the change was over,
    the number is already the new one.
    """

    def __init__(
        self,
        *,
        settle: float = 10.0,  # seconds for which a COMMIT whose answer was lost may still run
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settle = settle
        self._clock = clock
        self._fresh_numbers = count(2)
        self._numbers = [1] * (SLOTS + 1)
        self._marks: Counter[int] = Counter()
        self._lost: list[tuple[float, tuple[int, ...]]] = []
        self._lock = Lock()
        self.changes = 0

    def current(self, slots: Sequence[int]) -> tuple[int, ...]:
        if self._lost:
            self._settle_lost()
        marks, numbers = self._marks, self._numbers
        return tuple([0 if slot in marks else numbers[slot] for slot in slots])

    def changing(self, slots: Sequence[int]) -> ProcessFence:
        with self._lock:
            self._marks.update(slots)
        return ProcessFence(self, tuple(slots))

    def bump(self, slots: Sequence[int]) -> None:
        number = next(self._fresh_numbers)
        for slot in slots:
            self._numbers[slot] = number
        self.changes += 1

    def after_fork(self) -> None:
        """Whoever held the lock is not in the child."""
        self._lock = Lock()

    def close(self) -> None:
        """Nothing was taken."""

    def lower(self, slots: Sequence[int]) -> None:
        """Take one mark off each slot."""
        with self._lock:
            self._lower(slots)

    def lower_later(self, slots: tuple[int, ...]) -> None:
        """New numbers and marks down once *settle* has passed; the next reader does it."""
        with self._lock:
            self._lost.append((self._clock() + self._settle, slots))

    def _settle_lost(self) -> None:
        with self._lock:
            now = self._clock()
            due = [slots for until, slots in self._lost if until <= now]
            self._lost = [later for later in self._lost if later[0] > now]
            for slots in due:
                self.bump(slots)
                self._lower(slots)

    def _lower(self, slots: Sequence[int]) -> None:
        for slot in slots:
            if self._marks[slot] > 1:
                self._marks[slot] -= 1
            else:
                del self._marks[slot]


_shared: ProcessGenerations | None = None


def shared() -> ProcessGenerations:
    """The numbers of this process. All its apps share them: where two share a database, a change
    made through one is a change for the other; where they do not, meeting costs a reload."""
    global _shared
    if _shared is None:
        _shared = ProcessGenerations()
        os.register_at_fork(after_in_child=_shared.after_fork)
    return _shared


class ProcessFence:
    """The marks of one change."""

    def __init__(self, generations: ProcessGenerations, slots: tuple[int, ...]) -> None:
        self._generations = generations
        self._slots = slots

    def changed(self) -> None:
        self._generations.bump(self._slots)
        self._generations.lower(self._slots)

    def unchanged(self) -> None:
        self._generations.lower(self._slots)

    def lost(self) -> None:
        self._generations.lower_later(self._slots)
