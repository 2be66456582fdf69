"""Has it changed? Asked by the processes of one host, through the state file.

A change puts the marks of its process up, is committed, stores new numbers, and puts the marks
down. Readers look for marks first and read the numbers then. The marks of an owner who died, and
those of a COMMIT whose answer was lost, stand for `settle` seconds, because the database may still
be working on it; whoever meets them afterwards stores new numbers and puts them down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

from . import Moment
from .claims import drop_inherited
from .layout import COLUMNS
from .worker import Worker

_STORED = (1 << 64) - 1


class HostGenerations:
    """Numbers and marks in a file; every process of the host that opens it has them in common.

    Nothing is opened before the first use. Threads share it. A forked child opens the file anew
    and has a column of its own. While the file is unusable everything counts as changed; a
    process that gets no column has its marks stand `settle` after each change.
    """

    reaches_processes: ClassVar[bool] = True

    def __init__(
        self,
        path: Callable[[], Path],  # asked at each opening: a directory may have to be made
        *,
        mode: int = 0o600,
        settle: float = 10.0,  # seconds for which a COMMIT nobody waits for may still run
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.monotonic_ns,  # the same in all processes of the host
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._new_worker = partial(
            Worker,
            path,
            mode=mode,
            settle_ns=int(settle * 1e9),
            clock=clock,
            clock_ns=clock_ns,
            wall_ns=wall_ns,
            openings=count(),
        )
        self._workers: dict[int, Worker] = {}
        self.changes = 0

    def current(self, slots: Sequence[int]) -> tuple[int, ...]:
        return self.worker().current(slots)

    def changing(self, slots: Sequence[int]) -> HostFence:
        worker = self.worker()
        worker.raise_marks(slots)
        return HostFence(self, worker, tuple(slots))

    def bump(self, slots: Sequence[int]) -> None:
        worker = self.worker()
        with worker.lock:
            self.changes += 1
        worker.store(slots)

    def moment(self) -> Moment:
        return self._wall_ns(), self._clock_ns()

    def unchanged_since(self, moment: Moment, slots: Sequence[int]) -> bool:
        wall, steady = moment
        elapsed = self._clock_ns() - steady
        if self._wall_ns() - wall < elapsed:
            return False  # it was set back, and what changed since may have any number
        # Which opening of the file a number was read in is no matter here.
        times = [number and number & _STORED for number in self.current(slots)]
        return all(0 < time < wall & -COLUMNS for time in times)

    def close(self) -> None:
        worker = self._workers.pop(os.getpid(), None)
        if worker is not None:
            worker.close()

    def worker(self) -> Worker:
        """This process's own. A forked child has another, whether Python's hooks ran or not."""
        pid = os.getpid()
        worker = self._workers.get(pid)
        if worker is None:
            drop_inherited()  # uWSGI forks without Python's hooks
            for other in tuple(self._workers):
                self._workers.pop(other, None)  # the parent's; its file is open here too
            # Of threads that come first together, one makes it for all.
            worker = self._workers.setdefault(pid, self._new_worker())
        return worker


class HostFence:
    """The marks of one change."""

    def __init__(
        self, generations: HostGenerations, worker: Worker, slots: tuple[int, ...]
    ) -> None:
        self._generations = generations
        self._worker = worker
        self._slots = slots

    def changed(self) -> None:
        self._generations.bump(self._slots)
        self._lower()

    def unchanged(self) -> None:
        self._lower()

    def lost(self) -> None:
        worker = self._generations.worker()
        with worker.lock:
            self._generations.changes += 1
        worker.entrust(self._slots)
        self._lower()

    def _lower(self) -> None:
        # The marks of a parent are the parent's; those of a worker that was closed are settled.
        if self._worker is self._generations.worker():
            self._worker.lower_marks(self._slots)
