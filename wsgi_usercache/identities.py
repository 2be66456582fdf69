"""Which users are remembered, for how long, and is what is remembered still good?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import MappingProxyType
from typing import Any

from cachetools import TLRUCache

from .generations import EVERYBODY, Generations, slot_of
from .storable import NEW_TABLE

WAIT = 5.0  # seconds a caller waits for a load under way before it loads for itself
NOBODY_TTL = 1.0  # seconds it is remembered that an id belongs to nobody


@dataclass(frozen=True, slots=True)
class Entry:
    """One user as remembered.

    *frozen* is None for an id nobody has. *numbers* maps every slot the answer rests on to the
    number read before the load. *needs* holds what the identity handlers gave this user, by the
    identity they were asked about.
    """

    frozen: Any
    numbers: Mapping[int, int]
    expires: float
    needs: Mapping[Hashable, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load brought: the user to hand out, and what to remember of it.

    *names* are those the answer rests on, beside the user's own. *unstored* says why nothing is
    to be remembered.
    """

    user: Any
    frozen: Any = None
    names: frozenset[str] = frozenset()
    unstored: str | None = None


class _Flight:
    """A load under way, to be joined by callers who read the same numbers of what it rests on."""

    def __init__(self, read: Mapping[int, int]) -> None:
        self.read = read
        self.landed = threading.Event()
        self.thread = threading.get_ident()
        self.entry: Entry | None = None

    @classmethod
    def landed_with(cls, entry: Entry) -> _Flight:
        """A load that is over."""
        flight = cls(entry.numbers)
        flight.entry = entry
        flight.landed.set()
        return flight


class IdentityCache:
    """Entries of at most *maxsize* users, good for *ttl* seconds from the start of their load.

    Threads share it; a forked child must make its own. *known* names what a load may come to rest
    on, so that their numbers can be read before it. The lock is never held during a load.
    """

    def __init__(
        self,
        generations: Generations,
        *,
        ttl: float,  # seconds from the start of the load; use never extends it
        maxsize: int,  # users
        known: Callable[[], frozenset[str]] = frozenset,
        clock: Callable[[], float] = monotonic,
        wait: float = WAIT,
    ) -> None:
        self._generations = generations
        self._ttl = ttl
        self._known = known
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}
        self._clears = 0
        self._shared_slots: set[int] = set()  # what entries rest on beside their own users
        self._entries: TLRUCache[Hashable, Entry] = TLRUCache(
            maxsize, ttu=lambda _key, entry, _now: entry.expires, timer=clock
        )
        self.counts: Counter[str] = Counter()
        self.unstored: Counter[str] = Counter()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def clear(self) -> None:
        """Forget everybody. What loads under way bring is not kept, and nobody joins them."""
        with self._lock:
            self._clears += 1
            self._entries.clear()
            self._flights.clear()

    def invalidate(self, user_names: Iterable[str]) -> None:
        """Have these users loaded again, here and wherever the numbers reach."""
        self._generations.bump(tuple(map(slot_of, user_names)))

    def numbers(self) -> Mapping[int, int]:
        """The numbers, now, of all that something about to run may come to rest on."""
        return self._read(EVERYBODY)

    def _read(self, *slots: int) -> dict[int, int]:
        slots = (*slots, *map(slot_of, self._known()))
        return dict(zip(slots, self._generations.current(slots), strict=True))

    def find(self, key: Hashable) -> Entry | None:
        """The entry under *key*, if all it rests on is as it was before its load.

        One whose numbers moved is removed at once: should a number ever come back, it revives
        nothing. While a mark stands the entry is left alone, for the change may be rolled back.
        """
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._generations.current(tuple(entry.numbers))
        if now == tuple(entry.numbers.values()):
            return entry
        if 0 not in now:
            self._count("stale")
            self._remove(key, entry)
        return None

    def get_or_load(
        self,
        key: Hashable,
        user_name: str,
        load: Callable[[], Loaded],
        *,
        refresh: bool = False,
        may_wait: Callable[[], bool] = lambda: True,
    ) -> tuple[Entry | None, Loaded | None]:
        """Return the entry under *key*, calling *load* only if no good one is held.

        The second item is the load's own answer if this call made it; the first is None if that
        could not be remembered. Callers that read the same numbers share one load, unless they
        hold a connection (*may_wait*) or asked to *refresh*; if it fails or takes longer than
        *wait* seconds, each loads for itself.
        """
        if not refresh and (entry := self.find(key)) is not None:
            self._count("hits")
            return entry, None
        self._count("misses")
        own = EVERYBODY, slot_of(user_name)
        read = self._read(*own)  # before the load, so a change meanwhile wins
        if 0 in (read[slot] for slot in own):  # nothing will be kept: nobody should wait for it
            return self._load(key, own, read, load)
        flight, mine = self._board(key, own, read, refresh)
        if not mine:
            entry = self._joined(flight, may_wait)
            return (entry, None) if entry is not None else self._load(key, own, read, load)
        try:
            flight.entry, loaded = self._load(key, own, read, load)
            return flight.entry, loaded
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.landed.set()

    def _joined(self, flight: _Flight, may_wait: Callable[[], bool]) -> Entry | None:
        """What *flight* brings, waited for if that is possible."""
        if not flight.landed.is_set():
            if not may_wait() or flight.thread == threading.get_ident():
                return None
            self._count("waits")
            flight.landed.wait(self._wait)
        # What it rests on did not change until it landed: it is good for who came later.
        entry = flight.entry
        return entry if entry is not None and self._clock() < entry.expires else None

    def _board(
        self, key: Hashable, own: tuple[int, int], read: Mapping[int, int], refresh: bool
    ) -> tuple[_Flight, bool]:
        with self._lock:
            flight = self._flights.get(key)
            # Other tables change all the time and are no reason to load on one's own.
            count = (*own, *self._shared_slots)
            if flight is not None and not refresh:
                before = flight.read
                if all(before.get(slot) == read.get(slot) for slot in count):
                    return flight, False
            entry = None if refresh else self._entries.get(key)
            if entry is not None and entry.numbers.items() <= read.items():
                return _Flight.landed_with(entry), False  # since this caller looked for it
            flight = self._flights[key] = _Flight(read)
            return flight, True

    def _load(
        self,
        key: Hashable,
        own: tuple[int, int],
        read: Mapping[int, int],
        load: Callable[[], Loaded],
    ) -> tuple[Entry | None, Loaded]:
        began, clears = self._clock(), self._clears
        self._count("loads")
        loaded = load()
        if loaded.unstored is not None:
            self.count_unstored(loaded.unstored)
            return None, loaded
        shared = set(map(slot_of, loaded.names))
        if not shared <= self._shared_slots:
            with self._lock:
                self._shared_slots |= shared
        rests_on = (*own, *shared)
        if not read.keys() >= set(rests_on):
            self.count_unstored(NEW_TABLE)
            return None, loaded
        # An id nobody has may be given to somebody any moment.
        ttl = self._ttl if loaded.frozen is not None else min(self._ttl, NOBODY_TTL)
        numbers = MappingProxyType({slot: read[slot] for slot in rests_on})
        entry = Entry(loaded.frozen, numbers, began + ttl)
        return (entry if self._keep(key, entry, clears) else None), loaded

    def replace(self, key: Hashable, old: Entry, new: Entry) -> None:
        """Put *new* where *old* stands, which knew less of the same user."""
        with self._lock:
            if self._entries.get(key) is old:
                self._entries[key] = new

    def _keep(self, key: Hashable, entry: Entry, clears: int) -> bool:
        numbers = tuple(entry.numbers.values())
        if 0 in numbers:
            self.count_unstored("change under way")
            return False
        unchanged = self._generations.current(tuple(entry.numbers)) == numbers
        with self._lock:
            kept = unchanged and self._clears == clears
            if kept:
                self._entries[key] = entry
        if not kept:
            self.count_unstored("changed during the load")
        return kept

    def _remove(self, key: Hashable, entry: Entry) -> None:
        with self._lock:
            if self._entries.get(key) is entry:
                self._entries.pop(key, None)  # `del` raises for one that expires this moment

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def count_unthawed(self, reason: str) -> None:
        """One hit that was none: no user could be made of the entry, and it is loaded."""
        with self._lock:
            self.counts.update(hits=-1, misses=1, loads=1)
            self.unstored[reason] += 1

    def count_unstored(self, reason: str) -> None:
        """One more answer that was not remembered, and why."""
        with self._lock:
            self.unstored[reason] += 1
