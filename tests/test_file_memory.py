"""What files take in memory: a budget for their bytes, and bounds for all that is kept beside."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from test_at_hand import Site, ready, write

from wsgi_usercache.at_hand import Table, put

FILE_SIZE = 20 * 2**10
MEASURE = """
import os, sys
from pathlib import Path
from test_at_hand import Site

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

site = Site(Path(sys.argv[1]), static_bytes=int(sys.argv[2]))
site.ask("/static/a.css")
before = resident()
for number in range(int(sys.argv[3])):
    assert site.ask(f"/static/{number}.css")[0] == 200
print(site.cache.stats().served, resident() - before)
"""


@pytest.mark.parametrize(
    ("static_bytes", "files"), [(64 * 2**20, 10_000), (4 * 2**20, 2_000), (0, 2_000)]
)
def test_many_files_stay_within_the_budget(tmp_path: Path, static_bytes: int, files: int) -> None:
    write(tmp_path / "a.css", bytes(FILE_SIZE))
    for number in range(files):
        os.link(tmp_path / "a.css", tmp_path / f"{number}.css")
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path, str(static_bytes), str(files)],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
        text=True,
    )
    served, used = map(int, measured.stdout.split())
    assert served == files + 1
    # Beside the files there are paths, rules and looks; all files are several times as much.
    assert static_bytes / 2 <= used < static_bytes + 16 * 2**20 < files * FILE_SIZE


def kept_of(site: Site, requests: Iterable[dict[str, str]]) -> int:
    """How many bytes more the process holds after these requests."""
    tracemalloc.start()
    try:
        for asked in requests:
            assert site.ask(**asked)[0] in (200, 404)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def negotiating(folder: Path) -> Site:
    write(folder / "a.css", bytes(FILE_SIZE))
    write(folder / "a.css.br", bytes(FILE_SIZE))
    site = Site(folder, precompressed=True)
    site.app.config["TRUSTED_HOSTS"] = [".example.test"]
    site.ask(HTTP_HOST="www.example.test")
    return site


def test_other_spellings_do_not_pile_up(tmp_path: Path) -> None:
    spelled = ("/static/" + "./" * number + "a.css" for number in range(0, 4000, 16))
    requests = [{"PATH_INFO": path, "HTTP_HOST": "x.example.test"} for path in spelled]
    assert kept_of(negotiating(tmp_path), requests) < 2**18  # the paths are four times as much


def test_long_names_of_nothing_do_not_pile_up(tmp_path: Path) -> None:
    names = (str(number) + "/x" * 1_000 for number in range(500))
    requests = [{"PATH_INFO": f"/static/{name}", "HTTP_HOST": "x.example.test"} for name in names]
    assert kept_of(negotiating(tmp_path), requests) < 2**18  # the names are four times as much


def test_long_headers_do_not_pile_up(tmp_path: Path) -> None:
    requests = [
        {"HTTP_ACCEPT_ENCODING": f"br, x-{number}" + "x" * 100_000, "HTTP_HOST": "x.example.test"}
        for number in range(50)
    ]
    assert kept_of(negotiating(tmp_path), requests) < 2**18


@pytest.mark.parametrize("varies_by", [(), ("HTTP_HOST",)])
def test_the_table_is_bounded(varies_by: tuple[str, ...]) -> None:
    table: Table = {}
    for number in range(10_000):
        environ = {"PATH_INFO": f"/{number % 7000}", "HTTP_HOST": str(number)}
        put(table, environ, ready(b""), varies_by)
    assert 1 <= len(table) <= 4096 + 2
