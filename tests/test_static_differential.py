"""Thousands of requests for static files: with the middleware they get the answers of Flask."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from static_answers import INTENDED, Answer, Sites, behind, intended, same, without_range
from static_corpus import IN_THE_FOLDER, Request, build, requests
from static_peers import KINDS, OURS, SERVESTATIC, WHITENOISE, deviations

from wsgi_usercache import Lane

REQUESTS = requests()


def in_any_order(seed: str) -> list[Request]:
    return random.Random(seed).sample(REQUESTS, len(REQUESTS))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    build(root)
    return root


def told(request: Request, *answers: Answer) -> str:
    """What a failure says; bodies may be long."""
    lines = [f"{a.status} {a.lane} {a.headers} {len(a.body)}: {a.body[:80]!r}" for a in answers]
    return "\n".join([str(request), *lines])


def agree(request: Request, wanted: Answer, answer: Answer) -> None:
    if not same(wanted, answer):
        pytest.fail(told(request, wanted, answer))


def expected(flask_alone: Sites, request: Request, lane: Lane | None) -> Answer:
    """Flask's own answer; where a difference is meant, its answer without the range."""
    meant = lane is Lane.SERVE and intended(request) is not None
    return flask_alone.ask(without_range(request) if meant else request)


def test_there_are_thousands_of_requests() -> None:
    assert len(REQUESTS) >= 2000
    assert len(set(REQUESTS)) > len(REQUESTS) * 0.95


@pytest.mark.parametrize("max_age", [None, 0, 3600])
def test_every_answer_is_flasks_first_and_remembered(root: Path, max_age: int | None) -> None:
    flask_alone = Sites(root, max_age=max_age)
    front = Sites(root, behind, max_age, etags=flask_alone.etag)
    for request in in_any_order(str(max_age)):
        first, second = front.ask(request), front.ask(request)
        assert first.lane is second.lane
        wanted = expected(flask_alone, request, first.lane)
        agree(request, wanted, first)
        agree(request, wanted, second)


@pytest.mark.parametrize(("max_age", "part"), [(None, 0), (0, 1), (3600, 2)])
def test_the_very_first_answer_of_a_process_is_flasks(
    root: Path, max_age: int | None, part: int
) -> None:
    flask_alone = Sites(root, max_age=max_age)
    for request in REQUESTS[part::7]:
        answer = Sites(root, behind, max_age, etags=flask_alone.etag).ask(request)
        agree(request, expected(flask_alone, request, answer.lane), answer)


def test_every_file_is_served_by_its_proper_name_whatever_is_asked_of_it(root: Path) -> None:
    front = Sites(root, behind)
    for request in in_any_order("served"):
        answer = front.ask(request)
        if request.is_for_a_file:
            assert answer.lane is Lane.SERVE, told(request, answer)


def test_nothing_is_served_but_what_flask_itself_finds_in_the_folder(root: Path) -> None:
    flask_alone, front = Sites(root), Sites(root, behind)
    served = 0
    for request in (request for request in REQUESTS if not request.is_for_a_file):
        answer = front.ask(request)
        if answer.lane is Lane.SERVE:
            served += 1
            found = flask_alone.ask(replace(request, method="GET", headers=()))
            assert request.method in ("GET", "HEAD"), told(request, answer)
            assert found.code == 200, told(request, answer)
            assert request.name in IN_THE_FOLDER, told(request, answer)
    assert served < len(REQUESTS) / 20  # `./`, `x/../`, `//` before it: other ways to write it


def test_each_difference_that_is_meant_occurs(root: Path) -> None:
    flask_alone, front = Sites(root), Sites(root, behind)
    seen: Counter[str] = Counter()
    for request in (request for request in REQUESTS if request.is_for_a_file):
        row = intended(request)
        if row is not None:
            answer, whole = front.ask(request), flask_alone.ask(without_range(request))
            agree(request, whole, answer)
            seen[row.name] += not same(flask_alone.ask(request), whole)
    assert all(seen[row.name] > 10 for row in INTENDED), seen


def test_the_same_requests_tell_others_from_flask(root: Path) -> None:
    counts = deviations(root, REQUESTS)
    assert counts[OURS].total() == 0
    assert counts[WHITENOISE]["a range of one byte: 416"] > 50
    assert counts[SERVESTATIC]["a range of one byte: 416"] == 0
    for peer in (WHITENOISE, SERVESTATIC):
        assert counts[peer]["If-Range is not looked at"] > 50
        assert counts[peer].total() > 500
        assert counts[peer].keys() <= {name for name, _, _ in KINDS}
