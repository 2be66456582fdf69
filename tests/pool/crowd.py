"""Many people at once, each with a session, a browser and a thread of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Barrier
from typing import Any

from waiting import PATIENCE

from examples.roles.browser import Browser, assets_of

Ask = Callable[[str], bytes]  # for a path; the body that came
Visit = Callable[[Ask, int], Any]  # what one of them does, and who: 1, 2, ...
FETCHING = 14  # one in so many fetches what is beside a page


@dataclass(frozen=True, slots=True)
class Answer:
    path: str
    status: int
    seconds: float


class Crowd:
    """Their browsers, and all answers they had."""

    def __init__(self, browsers: list[Browser]) -> None:
        self._browsers = browsers
        self.answers: list[Answer] = []

    def log_in(self) -> None:
        """One after the other."""
        for person, browser in enumerate(self._browsers, 1):
            assert browser.post(f"/login/{person}").status == 200

    def visit(self, visit: Visit) -> list[Answer]:
        """All begin at once; the answers, when all have ended."""
        before = len(self.answers)
        start = Barrier(len(self._browsers))

        def come(person: int, browser: Browser) -> None:
            def ask(path: str) -> bytes:
                answer = browser.get(path)
                self.answers.append(Answer(path, answer.status, answer.seconds))
                return answer.body

            start.wait(PATIENCE)
            visit(ask, person)

        with ThreadPoolExecutor(len(self._browsers)) as threads:
            coming = [threads.submit(come, *each) for each in enumerate(self._browsers, 1)]
        for each in coming:
            each.result()
        return self.answers[before:]


@contextmanager
def crowd(port: int, people: int) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd([stack.enter_context(Browser(port)) for _ in range(people)])


def slow_view(ask: Ask, person: int) -> None:
    ask("/slow")


def page_with_assets(ask: Ask, person: int) -> None:
    """Some fetch the assets too; one that came as an error names none."""
    page = ask("/page")
    if person % FETCHING == 0:
        for url in assets_of(page):
            ask(url)


def hanging_call(ask: Ask, person: int) -> None:
    ask("/call")


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def seconds(answers: list[Answer], share: float) -> float:
    """As long as this share of the views took at most."""
    views = sorted(each.seconds for each in answers if not each.path.startswith("/static/"))
    return views[int(share * (len(views) - 1))]
