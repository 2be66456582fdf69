"""What does a served file cost, compared with the peers, a logged-in static route and a constant?

`python -m benchmarks.files` prints the medians of all, and for each target whether it is met.
Rows in brackets are for information: nothing is asked of them.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path

from . import file_memory, file_server, file_sites
from .racing import Contender, answer_of, race, ratio, ratios, spread, sure

PACKAGES = ("flask", "werkzeug", "flask-login", "flask-principal", "gunicorn")
FIRST = "ours, no page asked for yet"
LATER = "ours, after a page"
PEER = f"WhiteNoise {version('whitenoise')}"
FLASK = "Flask's static route"
LOGGED_IN = {
    "[logged-in static route, user from SQLite]": file_sites.from_sqlite(),
    "logged-in static route, user from a dict": file_sites.USERS.get,
}
FLOOR = "[a constant]"
SERVED, CONSTANT = {"ours": FIRST, "ours_after_a_page": LATER}, "constant"  # in file_server
SMALL, LARGE = "/static/small.css", "/static/large.css"
AT_LEAST = 60  # times ours; a logged-in static route
RATE = 0.95  # of a constant's; our answers a second


@dataclass(frozen=True, slots=True)
class Case:
    """What everybody is asked for, and how much of WhiteNoise's time may be ours."""

    name: str
    path: str
    at_most: float
    is_known: bool = False  # to the client, who sends the ETag it was given


CASES = (
    Case("5 KiB", SMALL, 0.20),
    Case("200 KiB", LARGE, 0.10),
    Case("304, 5 KiB", SMALL, 1.00, is_known=True),
)


def contenders(folder: Path, cookie: str, case: Case) -> dict[str, Contender]:
    """Return everybody, each with what to ask; they were asked, and gave the same answer."""
    later, much_later = file_sites.ours(folder), file_sites.ours_much_later(folder)
    apps = {
        FIRST: file_sites.ours(folder),
        LATER: later,
        PEER: file_sites.whitenoise(folder),
        f"ServeStatic {version('servestatic')}": file_sites.servestatic(folder),
        FLASK: file_sites.bare(folder),
        **{name: file_sites.logged_in(folder, load) for name, load in LOGGED_IN.items()},
        "[ours, last looked at an hour ago]": much_later,
    }
    for app in (later, much_later):
        if answer_of(file_sites.asking(app, "/", Cookie=cookie)).body != b"ada":
            raise RuntimeError("nobody is logged in")
    asked = {}
    for name, app in apps.items():
        asked[name] = file_sites.asking(app, case.path, Cookie=cookie)
        if case.is_known:
            tag = answer_of(asked[name]).header("ETag")
            asked[name] = file_sites.asking(app, case.path, Cookie=cookie, If_None_Match=tag)
    answers = {name: answer_of(each) for name, each in asked.items()}
    content = b"" if case.is_known else (folder / Path(case.path).name).read_bytes()
    for name, answer in answers.items():
        if answer.body != content or answer.status[:3] != ("304" if case.is_known else "200"):
            raise RuntimeError(f"{name} answers {answer.status} with {len(answer.body)} bytes")
    ready = answers[FIRST]
    floor = file_sites.constant(ready.status, ready.headers, ready.body)
    return asked | {FLOOR: file_sites.asking(floor, case.path, Cookie=cookie)}


def in_process(folder: Path, cookie: str, case: Case) -> Iterator[str]:
    """Yield the table's rows of one case."""
    laps = race(contenders(folder, cookie, case))
    for name, figures in laps.items():
        of_peer, met = ratio(laps, name, PEER), ""
        if name in (FIRST, LATER):
            met = verdict(of_peer <= case.at_most, f"<= {case.at_most:.2f}")
        elif name in LOGGED_IN and case is CASES[0]:
            times = min(ratio(laps, name, each) for each in (FIRST, LATER))
            met = f"{times:.1f} times ours, " + verdict(times >= AT_LEAST, f">= {AT_LEAST}")
        yield f"| {case.name} | {name} | {spread(figures)} | {of_peer:.3f} | {met} |"


def first_time(folder: Path) -> str:
    """Return the table's row of files that nobody has asked for before."""
    rounds, requests = 20, 20
    for number in range(rounds * requests * 2):
        file_sites.write(folder, f"{number}.css", 5 * 2**10)
    numbers = count()
    app = file_sites.ours(folder)
    answer_of(file_sites.asking(app, "/"))
    fresh = Contender(
        app, lambda: file_sites.asking(app, f"/static/{next(numbers)}.css").environ()
    )
    if answer_of(fresh).status != "200 OK":
        raise RuntimeError("there is no such file")
    laps = race({"fresh": fresh}, rounds=rounds, requests=requests)
    return f"| 5 KiB | [ours, for the first time] | {spread(laps['fresh'])} | | |"


def served(folder: Path, cookie: str) -> Iterator[str]:
    """Yield a table of answers a second under gunicorn."""
    rates, spent = file_server.compare(folder, cookie, [*SERVED, CONSTANT, "whitenoise"])
    yield "| 5 KiB, gunicorn | answers a second | of the constant's | CPU µs an answer | target |"
    yield "|---|---:|---:|---:|---|"
    for name, figures in rates.items():
        share, met = sure(ratios(rates, name, CONSTANT)), ""
        if name in SERVED:
            met = verdict(ratio(rates, name, CONSTANT) >= RATE, f">= {RATE:.2f}")
        label = SERVED.get(name, f"[{name}]")
        yield f"| {label} | {spread(figures, 0)} | {share} | {spent[name]:.1f} | {met} |"


def remembered(folder: Path) -> Iterator[str]:
    """Yield a table of the memory that many files take."""
    allowed = file_memory.BUDGET + file_memory.BOOKKEEPING * file_memory.FILES
    yield f"| {file_memory.FILES:,} files of 20 KiB | MiB more | after all again | target |"
    yield "|---|---:|---:|---|"
    for name, grown in file_memory.measure(folder).items():
        once, again = (each / 2**20 for each in grown)
        met = verdict(max(grown) <= allowed, f"<= 64 + {(allowed / 2**20) - 64:.1f} MiB")
        yield f"| {name} | {once:.1f} | {again:.1f} | {met} |"


def verdict(met: bool, target: str) -> str:
    """Return a target and whether it is met."""
    return f"{target} {'PASS' if met else 'FAIL'}"


def machine() -> str:
    """Return where and with what this was measured."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    where = f"{os.cpu_count()} processors of {model}, load {loads}"
    return f"{where}; CPython {platform.python_version()}, {packages}"


def main() -> None:
    """Print everything, as it comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without ending the servers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "files")
        for path, size in {SMALL: 5 * 2**10, LARGE: 200 * 2**10}.items():
            file_sites.write(folder, Path(path).name, size)
        cookie = file_sites.cookie_of(folder)
        print(machine(), end="\n\n")
        print("| asked for | answered by | µs (quartiles) | of WhiteNoise's | target |")
        print("|---|---|---:|---:|---|")
        for case in CASES:
            print(*in_process(folder, cookie, case), sep="\n", flush=True)
        print(first_time(Path(name, "fresh")), end="\n\n", flush=True)
        print(*served(folder, cookie), sep="\n", end="\n\n", flush=True)
        print(*remembered(Path(name, "many")), sep="\n")


if __name__ == "__main__":
    main()
