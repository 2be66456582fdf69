"""The demo measures, prints, stays up or ends, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[1]
StartDemo = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    """Starts the demo with a folder for temporary files that holds nothing else."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            demo = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "examples.roles.demo", "--rounds=3", *arguments],
                    cwd=ROOT,
                    env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            stack.callback(demo.terminate)
            return demo

        yield start


def row(table: str, state: str) -> list[float]:
    """The figures of the table's first row with the middleware *state*."""
    found = re.search(rf"^(?:page with its 24 assets)? +{state} +([\d. ]+)$", table, re.M)
    assert found, table
    return [float(figure) for figure in found[1].split()]


def test_the_demo_prints_its_table_and_ends_by_itself(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    demo = start_demo("--once")
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, output
    statements, loads, signals, *_ = row(output, "off")
    assert (statements >= 50, loads, signals) == (True, 25, 25)
    assert row(output, "on")[:3] == [0, 0, 0]
    assert "Lanes of the assets with the middleware on: serve 24." in output
    assert "Same bytes from both: yes." in output
    assert "/admin: 403; ada grants him the role: 200; she revokes it: 403." in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_demo_stays_up_for_a_browser_and_leaves_nothing_behind(
    start_demo: StartDemo, tmp_path: Path, ending: signal.Signals
) -> None:
    demo = start_demo()
    assert demo.stdout is not None
    urls: list[str] = []
    for line in demo.stdout:
        urls += re.findall(r"http://\S+/", line)
        if "Ctrl-C" in line:
            break
    assert len(urls) == 2, "the demo ended early"
    for url in urls:
        with urlopen(f"{url}login", timeout=20) as response:
            assert b"Log in" in response.read()
    demo.send_signal(ending)
    assert demo.wait(timeout=30) == 0
    for url in urls:
        with pytest.raises(URLError):
            urlopen(url, timeout=5)
    assert not list(tmp_path.iterdir())
