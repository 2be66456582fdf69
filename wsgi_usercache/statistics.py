"""What did the cache do so far? The figures users are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
