"""What does the middleware change? The same requests to the same application, without and with it.

`python -m examples.roles.demo` starts two gunicorns, one with the middleware off and one with it
on, asks both for the same things in turn, prints a table and stays up for a browser until Ctrl-C.
`--once` ends after the table.
"""

import argparse
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NoReturn

from .browser import Answer, Browser, assets_of
from .demo_data import log_ins
from .server import Server

FIGURES = ("statements", "user_loads", "identity_signals")
LOG_INS = 9  # measured of each server; hashing the password makes them slow
WARM_UP = 3  # rounds of each server that are not measured
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one step cost: what the server counted, and what the client waited and got."""

    counts: Counter[str]
    answers: tuple[Answer, ...]

    @property
    def milliseconds(self) -> float:
        return sum(answer.seconds for answer in self.answers) * 1000


def measure(server: Server, browser: Browser, paths: Sequence[str]) -> Sample:
    """Ask for *paths* one after another; every answer must be 200."""
    before = server.counts()
    answers = tuple(browser.get(path) for path in paths)
    counts = server.counts()
    counts.subtract(before)
    wrong = [(path, a.status) for path, a in zip(paths, answers, strict=True) if a.status != 200]
    if wrong:
        raise RuntimeError(f"not answered with 200: {wrong}\n{server.log()}")
    return Sample(counts, answers)


@dataclass(frozen=True, slots=True)
class Run:
    """All samples of one server."""

    first: list[Sample]  # the page after a log-in, which writes last_seen
    pages: list[Sample]  # the page alone, warm
    assets: list[Sample]  # its assets, warm


def drive(servers: Sequence[Server], rounds: int) -> list[Run]:
    """Measure all *servers*, taking turns, so that the machine's moods meet them alike."""
    runs = [Run([], [], []) for _ in servers]
    for _ in range(LOG_INS):
        for server, run in zip(servers, runs, strict=True):
            with Browser(server.port) as browser:
                browser.log_in("ada", "engine")
                run.first.append(measure(server, browser, ["/"]))
    with ExitStack() as stack:
        browsers = [stack.enter_context(Browser(server.port)) for server in servers]
        for browser in browsers:
            browser.log_in("ada", "engine")
        for turn in range(WARM_UP + rounds):
            for server, browser, run in zip(servers, browsers, runs, strict=True):
                page = measure(server, browser, ["/"])
                assets = measure(server, browser, assets_of(page.answers[0].body))
                if turn >= WARM_UP:
                    run.pages.append(page)
                    run.assets.append(assets)
    return runs


def table(runs: Sequence[Run]) -> str:
    """Return the medians of *runs* (off, on) as text, one row per kind of request."""
    together = [
        [
            Sample(page.counts + assets.counts, page.answers + assets.answers)
            for page, assets in zip(run.pages, run.assets, strict=True)
        ]
        for run in runs
    ]
    size = len(runs[0].assets[0].answers)
    kinds = (
        (f"page with its {size} assets", together, 1),
        ("one asset", [run.assets for run in runs], size),
        ("the page alone (a hit)", [run.pages for run in runs], 1),
        ("page that writes last_seen", [run.first for run in runs], 1),
    )
    lines = [
        f"{'':<28}{'':<12}{'SQL':>11}{'user':>7}{'identity':>10}{'cookies':>9}{'milli-':>9}",
        f"{'medians, warm':<28}{'middleware':<12}{'statements':>11}{'loads':>7}"
        f"{'signals':>10}{'set':>9}{'seconds':>9}",
    ]
    for kind, samples_of, share in kinds:
        for samples, state in zip(samples_of, ("off", "on"), strict=True):
            figures = [median(s.counts[name] for s in samples) / share for name in FIGURES]
            cookies = median(sum(a.sets_cookie for a in s.answers) for s in samples) / share
            spent = median(s.milliseconds for s in samples) / share
            lines.append(
                f"{kind if state == 'off' else '':<28}{state:<12}{figures[0]:>11g}{figures[1]:>7g}"
                f"{figures[2]:>10g}{cookies:>9g}{spent:>9.2f}"
            )
    return "\n".join(lines)


def freshness(server: Server) -> str:
    """Return what linus is answered at /admin before, while and after ada lets him in."""
    with Browser(server.port) as ada, Browser(server.port) as linus:
        ada.log_in("ada", "engine")
        linus.log_in("linus", "bonds")
        statuses = [linus.get("/admin").status]
        for change in ("grant", "revoke"):
            ada.post(f"/admin/linus/admin/{change}")
            statuses.append(linus.get("/admin").status)
    return "linus asks for /admin: {}; ada grants him the role: {}; she revokes it: {}".format(
        *statuses
    )


def show(servers: Sequence[Server], rounds: int) -> None:
    """Measure *servers* (off, on) and print what was found."""
    runs = drive(servers, rounds)
    off, on = (run.assets[-1] for run in runs)
    same = [a.body for a in off.answers] == [a.body for a in on.answers]
    lanes = sum((s.counts for s in runs[1].assets), Counter())
    taken = ", ".join(
        f"{name.removeprefix('lane:')} {count // len(runs[1].assets)}"
        for name, count in sorted(lanes.items())
        if name.startswith("lane:")
    )
    print(table(runs))
    print(f"\n{rounds} rounds, each server in turn, one client, one connection kept alive.")
    print(f"Lanes of the assets with the middleware on: {taken}.")
    print(f"Same bytes from both: {'yes' if same else 'NO'}.")
    print(f"{freshness(servers[1])}.")


def wait_for_interrupt(servers: Sequence[Server]) -> None:
    off, on = servers
    print(f"\nFor your browser: http://127.0.0.1:{on.port}/ (middleware on)")
    print(f"  and to compare: http://localhost:{off.port}/ (middleware off)")
    print(f"Log in with (name, password, roles):\n{log_ins()}\nCtrl-C ends it.", flush=True)
    while True:
        signal.pause()


def interrupt_once(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt, and let no second signal cut short what ends servers and files."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 also when it was ended by Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="examples.roles.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the table")
    parser.add_argument("--rounds", type=int, default=40, help="page loads measured (40)")
    options = parser.parse_args(arguments)
    for ending in ENDINGS:  # whoever starts us in the background may have SIGINT ignored
        signal.signal(ending, interrupt_once)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roles-")))
            servers = [
                stack.enter_context(Server(folder, enabled=enabled)) for enabled in (False, True)
            ]
            show(servers, options.rounds)
            if not options.once:
                wait_for_interrupt(servers)
    except KeyboardInterrupt:
        print("\nEnded.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
