"""What files take in memory: a budget for their bytes, and bounds for all that is kept beside."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from test_at_hand import Site, ready, write

from wsgi_usercache.at_hand import AtHand

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


@pytest.mark.parametrize(("static_bytes", "files"), [(64 * 2**20, 10_000), (4 * 2**20, 2_000)])
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
    assert static_bytes / 2 < used < static_bytes + 16 * 2**20 < files * FILE_SIZE


def test_other_spellings_hosts_and_encodings_do_not_pile_up(tmp_path: Path) -> None:
    write(tmp_path / "a.css", bytes(FILE_SIZE))
    write(tmp_path / "a.css.br", bytes(FILE_SIZE))
    site = Site(tmp_path, precompressed=True)
    site.app.config["TRUSTED_HOSTS"] = [".example.test"]
    site.ask(HTTP_HOST="www.example.test")
    tracemalloc.start()
    try:
        for number in range(0, 8_000, 32):
            asked = {
                "PATH_INFO": "/static/" + "./" * (number // 2) + "a.css",
                "HTTP_HOST": f"{number}.example.test",
                "HTTP_ACCEPT_ENCODING": f"br, x-{number}" + "x" * number,
            }
            assert site.ask(**asked)[0] == 200
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2**20  # the paths and headers together are twice as much


def test_the_table_is_bounded() -> None:
    at_hand = AtHand()
    for number in range(10_000):
        at_hand.put({"PATH_INFO": f"/{number}"}, ready(b""), varies_by=(), version=at_hand.version)
    assert 1 <= sum(at_hand.get(f"/{number}") is not None for number in range(10_000)) <= 4096
