"""What is this process's part in the state file: which column, which marks, what is untold?"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .layout import COLUMNS, Unusable
from .state_file import Claim, StateFile

log = logging.getLogger("wsgi_usercache")

RETRY = 1.0  # seconds between two tries of readers to open what could not be opened
CROWD = COLUMNS - 1  # nobody's for life: the marks whose COMMIT has no owner, see `entrust`
_TRIES = 3
_PATIENCE = 100  # milliseconds others may take to be done with the crowd's column
_NO_FLAGS = bytes(COLUMNS)
_CROWDED = (
    "users changed here are loaded for each request until the change is settled: more than "
    f"{CROWD} processes write to {{}}, or this one may open no more files"
)


class Worker:
    """One process at the state file; its threads share it. Nothing is opened before its use.

    Never raises on account of the file: while it is unusable, readers get zeros, and what changed
    is told as soon as there is a file again.
    """

    def __init__(
        self,
        path: Callable[[], Path],
        *,
        mode: int,
        settle_ns: int,
        clock: Callable[[], float],
        clock_ns: Callable[[], int],
        wall_ns: Callable[[], int],
        openings: Iterator[int],
    ) -> None:
        self._path = path
        self._mode = mode
        self._settle_ns = settle_ns
        self._clock = clock
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._openings = openings
        # Reentrant, for a collected generator may end its transaction in the middle of anything.
        self.lock = threading.RLock()
        self._file: StateFile | None = None
        self._claim: Claim | None = None
        self._retry_at = 0.0
        self._marks: Counter[int] = Counter()
        self._untold: set[int] = set()  # slots whose change nobody was told of
        self._is_out = False  # as the log says
        self._is_crowded = False  # as the log says
        self._unsaid: list[tuple[int, str]] = []

    def current(self, slots: Sequence[int]) -> tuple[int, ...]:
        """The numbers, 0 where none can be relied on."""
        file = self._file
        if file is None:
            file = self._file_for_reader()
        numbers: tuple[int, ...] = (0,) * len(slots)
        if file is not None:
            try:
                flags = file.flags()  # marks come first: see `Generations.current`
                marked = self._marked(file, flags, slots) if flags != _NO_FLAGS else ()
                numbers = tuple([0 if slot in marked else file.number(slot) for slot in slots])
            except Unusable as error:
                self._lose(file, error)
        if self._unsaid:
            self._say()
        return numbers

    def raise_marks(self, slots: Sequence[int]) -> None:
        """One mark more on each slot."""
        with self.lock:
            self._marks.update(slots)
            self._written(lambda file: self._raise(file, slots))
        self._say()

    def lower_marks(self, slots: Sequence[int]) -> None:
        """One mark less on each slot."""
        with self.lock:
            self._marks.subtract(slots)
            self._marks = +self._marks
            self._written(lambda file: self._lower(file, slots))
        self._say()

    def store(self, slots: Sequence[int]) -> None:
        """A new number in each slot."""
        with self.lock:
            if not self._written(lambda file: self._store(file, slots)):
                self._untold.update(slots)
        self._say()

    def entrust(self, slots: Sequence[int]) -> None:
        """Marks on *slots* as of somebody who died now: whatever becomes of this process, they
        stand for `settle`, and whoever meets them then ends them."""
        with self.lock:
            if not self._written(lambda file: self._entrust(file, slots)):
                self._untold.update(slots)
        self._say()

    def close(self) -> None:
        """Let go of file and column. Marks that are up stand as those of somebody who died."""
        with self.lock:
            self._drop()

    def _written(self, write: Callable[[StateFile], None]) -> bool:
        """Have *write* done in the file that is still the one at its path afterwards."""
        for _ in range(_TRIES):
            file = self._file or self._open()
            if file is None:
                return False
            try:
                file.flags()
                write(file)
                file.flags()  # were it replaced meanwhile, readers would look elsewhere
            except Unusable as error:
                self._lose(file, error)
            else:
                return True
        return False

    def _file_for_reader(self) -> StateFile | None:
        with self.lock:
            if self._file is None and self._clock() >= self._retry_at:
                self._open()
            return self._file

    def _open(self) -> StateFile | None:
        """Open the file, and write into it what of this process belongs there."""
        try:
            file = StateFile(
                self._path(), mode=self._mode, opening=next(self._openings), wall_ns=self._wall_ns
            )
            self._file = file
            if self._marks:
                self._raise(file, tuple(self._marks))
            self._store(file, tuple(self._untold))
        except (OSError, Unusable) as error:
            self._retry_at = self._clock() + RETRY
            self._drop()
            self._say_out(error)
            return None
        self._untold.clear()
        if self._is_out:
            self._is_out = False
            self._unsaid.append((logging.WARNING, f"the state file {file.path} is in use again"))
        return file

    def _lose(self, file: StateFile, error: Unusable) -> None:
        with self.lock:
            if self._file is file:
                self._drop()
                self._say_out(error)

    def _drop(self) -> None:
        self._file = None
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _column(self, file: StateFile) -> Claim | None:
        """The column of this process; None if there is none to be had."""
        if self._claim is None:
            self._claim = self._free_column(file)
            if self._claim is None and not self._is_crowded:
                self._unsaid.append((logging.ERROR, _CROWDED.format(file.path)))
            self._is_crowded = self._claim is None
        return self._claim

    def _free_column(self, file: StateFile) -> Claim | None:
        for column in range(CROWD):
            claim = None if file.is_owned(column) else file.claim(column)
            if claim is not None:
                if self._settled(file, claim):
                    return claim
                claim.release()
        return None

    def _raise(self, file: StateFile, slots: Sequence[int]) -> None:
        claim = self._column(file)
        if claim is None:
            self._entrust(file, slots)
            return
        file.flag(claim.column, up=True)
        for slot in slots:
            file.mark(claim.column, slot, up=True)

    def _lower(self, file: StateFile, slots: Sequence[int]) -> None:
        claim = self._claim
        if claim is None:
            return  # there are none, or they are the crowd's
        for slot in slots:
            if slot not in self._marks:
                file.mark(claim.column, slot, up=False)
        if not self._marks:
            file.flag(claim.column, up=False)

    def _store(self, file: StateFile, slots: Sequence[int]) -> None:
        if not slots:
            return
        claim = self._column(file)
        number = file.fresh_number(claim) if claim is not None else _number_of_nobody()
        for slot in slots:
            file.store(slot, number)

    def _entrust(self, file: StateFile, slots: Sequence[int]) -> None:
        for _ in range(_PATIENCE):
            claim = file.claim(CROWD)
            if claim is not None:
                break
            time.sleep(0.001)  # held for some microseconds, by whoever lost a COMMIT just now
        else:  # whoever has it was stopped: then at least what was loaded before is not used
            self._store(file, slots)
            return
        try:
            file.set_dead_since(CROWD, self._clock_ns())
            file.flag(CROWD, up=True)
            for slot in slots:
                file.mark(CROWD, slot, up=True)
        finally:
            claim.release()

    def _marked(self, file: StateFile, flags: bytes, slots: Sequence[int]) -> set[int]:
        marked: set[int] = set()
        for column, flag in enumerate(flags):
            if flag:
                here = {slot for slot in slots if file.is_marked(column, slot)}
                if here and (file.is_owned(column) or not self._recovered(file, column)):
                    marked |= here
        return marked

    def _recovered(self, file: StateFile, column: int) -> bool:
        """Whether the marks of *column*, whose owner is dead, are down now."""
        claim = file.claim(column)
        if claim is None:
            return False  # somebody else is at it
        try:
            return self._settled(file, claim)
        finally:
            claim.release()

    def _settled(self, file: StateFile, claim: Claim) -> bool:
        """Whether no mark stands in a column whose owner died; those that have stood enough are
        ended. Only who holds the column may, lest the next owner's death be dated by this one's.
        """
        column, slots = claim.column, file.marked(claim.column)
        if slots:
            since, now = file.dead_since(column), self._clock_ns()
            if not 0 < since <= now:  # the clock starts anew with the machine
                since = now
                file.set_dead_since(column, now)
            if now - since < self._settle_ns:
                return False
            number = file.fresh_number(claim)
            for slot in slots:
                file.store(slot, number)
            for slot in slots:
                file.mark(column, slot, up=False)
        file.flag(column, up=False)
        file.set_dead_since(column, 0)
        return True

    def _say_out(self, error: Exception) -> None:
        if not self._is_out:
            self._is_out = True
            self._unsaid.append((logging.ERROR, f"users are loaded for each request: {error}"))

    def _say(self) -> None:
        """Log what is to be said, without the lock: a handler may change users itself."""
        while self._unsaid:
            try:
                level, message = self._unsaid.pop(0)
            except IndexError:
                return
            log.log(level, "%s", message)


def _number_of_nobody() -> int:
    """A number for who has no column: at random, above all that come from a clock."""
    return int.from_bytes(os.urandom(8), "big") | 1 << 63
