"""The file the workers of a host share: is it sound, what stands in it, whose column is it?

One process is one column: a byte of marks per slot, and a lock held for life. Everything is read
with `pread`, never through a mapping: a mapped file truncated by somebody kills its readers. Two
system calls per look-up tell that the file is still the one at its path and whether there are
marks (0.5 and 1.6 µs, a number 0.4 µs more); a descriptor alone does not notice a file that was
moved away.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import layout
from .claims import Lock, closing, is_locked
from .layout import CLOSED, COLUMNS, FORMAT, SIZE, SLOT_COUNT, Unusable

_LOCKS = 1 << 40  # far behind the end: a lock needs no byte to stand on
_MAKING = _LOCKS + COLUMNS
_PATIENCE = 100  # hundredths of a second another process may take to make the file

_word = struct.Struct("=Q")
_LARGEST = (1 << 64) - 1


@dataclass(slots=True)
class Claim:
    """A column owned until it is released, and the last number that its owners stored."""

    column: int
    last: int
    lock: Lock

    def release(self) -> None:
        """Let go of the column."""
        self.lock.release()


class StateFile:
    """One opening of the file. Readers that still use it keep it open; nothing else does.

    Everything raises `Unusable` if the file can not be relied on any more. No
    number of one *opening* equals one of another: what happened in between, nobody knows.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: int,
        opening: int = 0,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self._name = os.fspath(path)
        self._above = opening << 64
        self._wall_ns = wall_ns
        try:
            self._fd = _open(self._name, mode)
            closing(self, self._fd)
            wrong = layout.wrong_file(path, os.fstat(self._fd), mode)
            if wrong is not None:
                raise Unusable(wrong)
            self._head = self._sound_head()
            self._traits = _traits(os.fstat(self._fd))
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}") from error
        self._put(bytes(8), layout.TRIAL)
        self.flags()

    def flags(self) -> bytes:
        """The columns' flags, if the file is what it was when it was opened."""
        try:
            found = os.lstat(self._name)
            head = os.pread(self._fd, layout.FLAGS + COLUMNS, 0)
        except OSError as error:
            raise Unusable(f"{self.path}: {error.strerror}") from error
        if head[: layout.HEAD] != self._head or _traits(found) != self._traits:
            closed = head[:8] == CLOSED
            raise Unusable(f"{self.path} was {'closed' if closed else 'cut, changed or replaced'}")
        return head[layout.FLAGS :]

    def number(self, slot: int) -> int:
        """The number in *slot*; 0 if there is none, for somebody wrote zeros over it."""
        number = self._word(layout.NUMBERS + 8 * slot)
        return number and number + self._above

    def store(self, slot: int, number: int) -> None:
        """A new number in *slot*: one aligned store, so nothing is ever half done."""
        self._put(_word.pack(number), layout.NUMBERS + 8 * slot)

    def fresh_number(self, claim: Claim) -> int:
        """A number nobody stored before, noted lest a later owner of the column repeats it. It
        tells the time of the change, as long as nobody sets the clock back."""
        wall = self._wall_ns() & -COLUMNS | claim.column
        # No call between the two: a collected generator may end its transaction in any of them,
        # and would be given the same number.
        above = claim.last + COLUMNS
        claim.last = above if above > wall else wall
        number = claim.last & _LARGEST
        self._put(_word.pack(number), layout.LAST + 8 * claim.column)
        return number

    def is_marked(self, column: int, slot: int) -> bool:
        """Whether there is a mark of *column* on *slot*."""
        return self._get(1, layout.MARKS + column * layout.STRIDE + slot) != b"\0"

    def mark(self, column: int, slot: int, up: bool) -> None:
        """Put the mark of *column* on *slot* up or down."""
        self._put(b"\1" if up else b"\0", layout.MARKS + column * layout.STRIDE + slot)

    def flag(self, column: int, up: bool) -> None:
        """Say whether *column* has any mark up: up before the first, down after the last."""
        self._put(b"\1" if up else b"\0", layout.FLAGS + column)

    def marked(self, column: int) -> list[int]:
        """The slots *column* has marks on."""
        marks = self._get(SLOT_COUNT, layout.MARKS + column * layout.STRIDE)
        return [slot for slot, mark in enumerate(marks) if mark] if any(marks) else []

    def dead_since(self, column: int) -> int:
        """When the owner of *column* was first seen dead; 0 if he was not."""
        return self._word(layout.DEAD + 8 * column)

    def set_dead_since(self, column: int, when: int) -> None:
        """Note when the owner of *column* was first seen dead; for who holds the column."""
        self._put(_word.pack(when), layout.DEAD + 8 * column)

    def is_owned(self, column: int) -> bool:
        """Whether a living process, this one included, holds *column*."""
        try:
            return is_locked(self._fd, _LOCKS + column)
        except OSError as error:
            raise Unusable(f"{self.path}: {error.strerror}") from error

    def claim(self, column: int) -> Claim | None:
        """*column* for as long as the claim is held; None if somebody else holds it, or the
        process has no descriptor left."""
        lock = self._lock(_LOCKS + column)
        if lock is None or not lock.is_taken:
            return None
        return Claim(column, self._word(layout.LAST + 8 * column), lock)

    def _lock(self, byte: int) -> Lock | None:
        try:
            lock = Lock(self._name, byte)
        except FileNotFoundError:
            raise Unusable(f"{self.path} was removed") from None
        except OSError:
            return None
        if not os.path.samestat(os.fstat(lock.fd), os.fstat(self._fd)):
            raise Unusable(f"{self.path} was replaced")
        return lock

    def _word(self, offset: int) -> int:
        number: int = _word.unpack(self._get(8, offset))[0]
        return number

    def _get(self, length: int, offset: int) -> bytes:
        try:
            found = os.pread(self._fd, length, offset)
        except OSError as error:
            raise Unusable(f"{self.path}: {error.strerror}") from error
        if len(found) < length:
            raise Unusable(f"{self.path} was cut")
        return found

    def _put(self, what: bytes, offset: int) -> None:
        try:
            written = os.pwrite(self._fd, what, offset)
        except OSError as error:
            raise Unusable(f"{self.path}: {error.strerror}") from error
        if written < len(what):
            raise Unusable(f"{self.path} has no room")

    def _sound_head(self) -> bytes:
        """The first bytes of the file, which is made if it is new or was cut."""
        if not self._is_made():
            lock = self._making()
            try:
                if not self._is_made():
                    self._make()
            finally:
                lock.release()
        return self._get(layout.HEAD, 0)

    def _is_made(self) -> bool:
        head, size = os.pread(self._fd, layout.NONCE, 0), os.fstat(self._fd).st_size
        if head[:8] == CLOSED:
            raise Unusable(f"{self.path} was closed by another version")
        if not layout.is_ours(head):
            raise Unusable(f"{self.path} is no state file of this version")
        return head == layout.OURS and size == SIZE

    def _making(self) -> Lock:
        for _ in range(_PATIENCE):
            lock = self._lock(_MAKING)
            if lock is not None and lock.is_taken:
                return lock
            time.sleep(0.01)  # the lock tells nobody when it is free; making takes milliseconds
        raise Unusable(f"{self.path} is being made by another process")

    def _make(self) -> None:
        os.ftruncate(self._fd, 0)  # what is not written below is 0
        self._put(layout.SHAPE, 8)  # from here on it is ours, should we die on the way
        try:
            os.posix_fallocate(self._fd, 0, SIZE)  # a full disk says so now, not later
        except OSError:
            os.ftruncate(self._fd, 0)
            raise
        first = self._wall_ns() & -COLUMNS
        self._put(_word.pack(first) * SLOT_COUNT, layout.NUMBERS)
        self._put(b"".join(_word.pack(first | column) for column in range(COLUMNS)), layout.LAST)
        self._put(os.urandom(8), layout.NONCE)
        self._put(FORMAT, 0)


def _traits(found: os.stat_result) -> tuple[int, ...]:
    """What does not change as long as nobody meddles with the file."""
    return (
        found.st_ino, found.st_dev, found.st_nlink, found.st_mode, found.st_uid, found.st_gid,
        found.st_size,
    )  # fmt: skip


def _open(name: str, mode: int) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags)
    except FileNotFoundError:
        fd = os.open(name, flags | os.O_CREAT, mode)
        if os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, mode)  # whatever the umask
        return fd
