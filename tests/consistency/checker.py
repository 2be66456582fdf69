"""Was any answer older than a change that had returned before its request began?"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

Thing = tuple[int, str]  # a user's id and an aspect of him


@dataclass(frozen=True, slots=True)
class Change:
    """One aspect of one user has this version since its COMMIT *returned*, or earlier."""

    user: int
    aspect: str
    version: int
    returned: float  # of the host's monotonic clock, like all times here


@dataclass(frozen=True, slots=True)
class Read:
    """What one answer showed of its user: versions by `aspect`, and by `needs.aspect`."""

    user: int
    began: float
    seen: Mapping[str, int]
    loads: int  # how often the user callback was called for it
    pid: int


@dataclass(frozen=True, slots=True)
class Stale:
    """An answer showed *seen* although *due* had returned before its request began."""

    read: Read
    what: str
    seen: int
    due: int


@dataclass(frozen=True, slots=True)
class Report:
    reads: int
    changes: int
    hits: int
    stale: tuple[Stale, ...]

    @property
    def hit_rate(self) -> float:
        return self.hits / self.reads

    def __str__(self) -> str:
        return (
            f"{self.reads} reads, {self.changes} changes, {len(self.stale)} stale,"
            f" hit rate {self.hit_rate:.2f}"
        )


def check(changes: Iterable[Change], reads: Iterable[Read]) -> Report:
    """Judge *reads* by *changes*, both in any order. A change that had not returned when a request
    began may be seen by it or not."""
    history: dict[Thing, list[Change]] = defaultdict(list)
    for change in changes:
        history[change.user, change.aspect].append(change)
    due = {thing: _Due(those) for thing, those in history.items()}
    answers = list(reads)
    return Report(
        reads=len(answers),
        changes=sum(map(len, history.values())),
        hits=sum(not read.loads for read in answers),
        stale=tuple(stale for read in answers for stale in _stale(read, due)),
    )


class _Due:
    """The versions of one thing, and which of them had returned by a given time."""

    def __init__(self, changes: list[Change]) -> None:
        ordered = sorted(changes, key=lambda change: change.returned)
        self._times = [change.returned for change in ordered]
        self._newest = [0, *accumulate((change.version for change in ordered), max)]

    def at(self, time: float) -> int:
        return self._newest[bisect_left(self._times, time)]


def _stale(read: Read, due: Mapping[Thing, _Due]) -> Iterable[Stale]:
    for what, seen in read.seen.items():
        history = due.get((read.user, what.removeprefix("needs.")))
        expected = history.at(read.began) if history is not None else 0
        if seen < expected:
            yield Stale(read, what, seen, expected)
