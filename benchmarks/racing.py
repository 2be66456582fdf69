"""Which of these WSGI applications answers sooner? They are asked in turn, in one process.

A round asks each of them for the same number of answers, so the machine's moods meet all alike,
and a ratio is the median over the rounds of what both took in the same round. What is timed is
this thread at work: others at work would make long laps longer, and short ones hardly ever.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import thread_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

WARM_UP = 5  # requests of a lap that are not measured: the one before had the processor's caches

Laps = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Contender:
    """An application and where its next environ comes from, each a dict of its own."""

    app: WSGIApplication
    environ: Callable[[], WSGIEnvironment]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next(value for key, value in self.headers if key.lower() == name.lower())


def answer_of(contender: Contender) -> Answer:
    """Return one whole answer, not measured."""
    began: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        began.append((status, headers))

    chunks = contender.app(contender.environ(), start_response)
    body = b"".join(chunks)
    getattr(chunks, "close", lambda: None)()
    return Answer(*began[-1], body)


def race(
    contenders: Mapping[str, Contender], *, rounds: int = 200, requests: int = 50
) -> dict[str, list[float]]:
    """Return the microseconds of an answer by contender, one figure a round.

    Who begins moves on from round to round.
    """
    names = list(contenders)
    laps: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            laps[name].append(_lap(contenders[name], requests))
    return laps


def ratios(laps: Laps, name: str, other: str) -> list[float]:
    """Return, for each round, the figure of *name* in terms of that of *other*."""
    return [a / b for a, b in zip(laps[name], laps[other], strict=True)]


def ratio(laps: Laps, name: str, other: str) -> float:
    """Return the median of the ratios of all rounds."""
    return median(ratios(laps, name, other))


def spread(figures: Sequence[float], digits: int = 1) -> str:
    """Return the median and, in brackets, the quartiles."""
    low, middle, high = (f"{each:,.{digits}f}" for each in quantiles(figures))
    return f"{middle} ({low} to {high})"


def sure(figures: Sequence[float]) -> str:
    """Return the median and, in brackets, where the true one is 19 times out of 20."""
    ranked = sorted(figures)
    off = round((len(ranked) - 1.96 * len(ranked) ** 0.5) / 2)  # binomial, of many
    return f"{median(ranked):.3f} ({ranked[off]:.3f} to {ranked[-1 - off]:.3f})"


def _start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    """Take the head of an answer as a server would, for nothing."""


def _lap(contender: Contender, requests: int) -> float:
    """Return the microseconds of one of *requests* answers, each read to its end and closed.

    The environs are made before and freed afterwards, and what is collectable waits until then.
    """
    environs = [contender.environ() for _ in range(WARM_UP + requests)]
    _ask(contender.app, environs[:WARM_UP])
    gc.disable()
    try:
        began = thread_time()
        _ask(contender.app, environs[WARM_UP:])
        return (thread_time() - began) / requests * 1e6
    finally:
        gc.enable()


def _ask(app: WSGIApplication, environs: Sequence[WSGIEnvironment]) -> None:
    for environ in environs:
        answer = app(environ, _start)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()
