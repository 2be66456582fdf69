"""The judge is judged first: it must find what is planted, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consistency.checker import Change, Read, check

CHANGES = [Change(1, "name", 1, 10.0), Change(1, "name", 2, 20.0), Change(2, "name", 7, 5.0)]


def read(began: float, **seen: int) -> Read:
    return Read(
        1, began, {what.replace("_", "."): version for what, version in seen.items()}, 0, 9
    )


def test_an_answer_older_than_a_change_that_had_returned_is_stale() -> None:
    (found,) = check(CHANGES, [read(20.5, name=1)]).stale
    assert (found.what, found.seen, found.due) == ("name", 1, 2)


def test_what_was_there_before_any_change_is_stale_after_the_first() -> None:
    assert len(check(CHANGES, [read(10.1, name=0)]).stale) == 1


def test_needs_are_held_against_the_changes_of_what_they_are_made_of() -> None:
    (found,) = check(CHANGES, [read(20.5, name=2, needs_name=1)]).stale
    assert found.what == "needs.name"


def test_a_change_that_returned_when_the_request_had_begun_may_be_seen_or_not() -> None:
    answers = [read(20.0, name=1), read(20.0, name=2), read(19.0, name=2), read(9.0, name=0)]
    assert check(CHANGES, answers).stale == ()


def test_a_change_noted_late_takes_nothing_back() -> None:
    late = [*CHANGES, Change(1, "name", 1, 30.0)]
    assert len(check(late, [read(31.0, name=1)]).stale) == 1


def test_what_nobody_changed_is_never_stale() -> None:
    assert check(CHANGES, [replace(read(99.0, name=0), user=3), read(99.0, level=0)]).stale == ()


def test_hits_are_the_answers_without_a_load() -> None:
    report = check(CHANGES, [read(1.0, name=0), replace(read(1.0, name=0), loads=1)])
    assert (report.reads, report.changes, report.hits, report.hit_rate) == (2, 3, 1, 0.5)


changes = st.builds(
    Change, st.integers(1, 2), st.sampled_from("ab"), st.integers(1, 9), st.integers(0, 9)
)
reads = st.builds(
    Read,
    st.integers(1, 2),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(["a", "b", "needs.a"]), st.integers(0, 9)),
    st.just(0),
    st.just(1),
)


@given(st.lists(changes), st.lists(reads))
def test_it_agrees_with_asking_every_change_about_every_answer(
    made: list[Change], answers: list[Read]
) -> None:
    expected = {
        (id(answer), what)
        for answer in answers
        for what, seen in answer.seen.items()
        for change in made
        if (change.user, change.aspect) == (answer.user, what.removeprefix("needs."))
        and change.returned < answer.began
        and change.version > seen
    }
    assert {(id(stale.read), stale.what) for stale in check(made, answers).stale} == expected
