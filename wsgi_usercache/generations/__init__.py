"""Has anything this answer was made of changed? One question, three reaches.

Every change stores a number that never occurred before in the slots of what it changed. Whoever
remembers an answer reads the numbers *before* making it, and the answer is good only while they
are equal. Nobody walks a store to delete, and an answer begun before a change can not pass for one
begun after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol
from zlib import crc32

SLOTS = 65_536
EVERYBODY = SLOTS  # one slot more: a change of it is a change of every user


def slot_of(name: str) -> int:
    """The slot of *name*, the same in every process; two names may share one, at the cost of a
    reload."""
    return crc32(name.encode()) & (SLOTS - 1)


Moment = tuple[int, ...]  # means something only to the object that gave it


class Fence(Protocol):
    """Marks that stand on some slots while a change is made. End it exactly once."""

    def changed(self) -> None:
        """The change was made: new numbers, then the marks down."""

    def unchanged(self) -> None:
        """Nothing was made, COMMIT had not been sent: the marks down, the numbers as they were."""

    def lost(self) -> None:
        """The answer to COMMIT was lost: the marks stand for *settle*, then as `changed`."""


class Generations(Protocol):
    """The numbers, and the marks of changes under way. Threads may share one."""

    changes: int  # made through this object
    reaches_processes: ClassVar[bool]  # or only the threads of this one

    def current(self, slots: Sequence[int]) -> tuple[int, ...]:
        """The number of each slot, 0 where none can be relied on: a mark stands, or the shared
        state is unusable."""

    def changing(self, slots: Sequence[int]) -> Fence:
        """Marks up on *slots*: until the fence ends, nobody uses or remembers what rests on
        them."""

    def moment(self) -> Moment:
        """This moment, to ask later whether anything has changed since. Reads no shared state."""

    def unchanged_since(self, moment: Moment, slots: Sequence[int]) -> bool:
        """Whether all of *slots* are as they were at *moment*: False in doubt."""

    def bump(self, slots: Sequence[int]) -> None:
        """A new number in each slot, for a change that is already visible."""

    def close(self) -> None:
        """Let go of what the first use took."""
