"""What did the cache do so far? The figures users are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from threading import Lock


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of this process since its first use of the cache."""

    hits: int  # users answered from memory
    misses: int
    loads: int  # user loader calls
    stale: int  # entries dropped because something they rest on had changed
    waits: int  # callers that waited for a load under way
    served: int  # files answered without Flask
    bypassed: int  # requests on the bypass lane
    invalidations: int  # changes made, watched commits among them
    size: int  # users remembered now
    unstored: Mapping[str, int]  # reason → answers not remembered
    lazy_loads: Mapping[str, int]  # Class.attribute → loads that remembered users caused
    backend: Mapping[str, int]  # figures of the backend


class Tally:
    """A count that many threads add to without a lock, which would cost ten times as much."""

    def __init__(self) -> None:
        self._numbers = count()
        self._reads = 0
        self._lock = Lock()
        #: Count one more.
        self.add: Callable[[], int] = self._numbers.__next__

    @property
    def total(self) -> int:
        """How many were counted. Looking draws a number too."""
        with self._lock:
            total = next(self._numbers) - self._reads
            self._reads += 1
            return total
