"""How much memory do many files cost, each asked for once and then all of them again?"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from . import file_sites
from .racing import answer_of

FILES = 10_000
SIZE = 20 * 2**10  # bytes a file
BUDGET = 64 * 2**20  # bytes; the default of USERCACHE_STATIC_BYTES
BOOKKEEPING = 2**10  # bytes a file that was asked for, kept or not


def measure(folder: Path) -> dict[str, tuple[int, int]]:
    """Return by way of counting how many bytes more there are, after each of the two times.

    Each way has a process of its own, and counts after one file and one page were answered.
    """
    for number in range(FILES):
        file_sites.write(folder, f"{number}.css", SIZE)
    grown = {}
    for name, way in {"tracemalloc": _traced, "resident set": _resident}.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            grown[name] = alone.submit(_grown, folder, way).result()
    return grown


def _grown(folder: Path, used: Callable[[], int]) -> tuple[int, int]:
    app = file_sites.ours(folder)
    answer_of(file_sites.asking(app, "/"))
    answer_of(file_sites.asking(app, "/static/0.css"))
    used()  # tracemalloc starts to count
    before = used()
    after = []
    for _ in range(2):
        for number in range(FILES):
            answer = answer_of(file_sites.asking(app, f"/static/{number}.css"))
            if len(answer.body) != SIZE:
                raise RuntimeError(answer.status)
        after.append(used() - before)
    return after[0], after[1]


def _traced() -> int:
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
