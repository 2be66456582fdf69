"""Every write, on SQLite and on PostgreSQL: the very next request sees it, and nobody is loaded
again for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from every_write_acts import Act, At, acting, put
from every_write_at_once import AT_ONCE
from every_write_endings import ENDINGS, rename
from every_write_flushes import FLUSHES, OF_LOGIN_IDS, OF_OTHER_ROWS
from every_write_site import MEMBERS, Page, SiteOf, WriteSite
from every_write_statements import BY_ORM
from every_write_texts import CASCADES, SPELLINGS, STATEMENTS
from flask_login import current_user
from sqlalchemy.orm import Session

pytest_plugins = ["every_write_sites", "postgres"]

ACTS = FLUSHES | STATEMENTS | ENDINGS | AT_ONCE
CAN_BE_ROLLED_BACK = {name: act for name, act in ACTS.items() if not act.ends}
LOOKED_AT_BEFORE = FLUSHES | BY_ORM | CASCADES  # what may meet rows that are held already
OF_OTHERS = OF_OTHER_ROWS | CASCADES

Outcome = dict[int, str]


def cases(acts: Mapping[str, Act], suffix: str = "") -> pytest.MarkDecorator:
    """Each act, on each database where it can be made."""
    found = [(kind + suffix, name) for name, act in acts.items() for kind in act.on]
    return pytest.mark.parametrize(("kind", "name"), found)


both = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


def outcome(pages: tuple[Page, Page], before: dict[int, Any]) -> Outcome:
    """What the next request of each member shows, and whether it had to ask the database.

    What is right is what the same page shows without the cache.
    """
    found = {}
    for member in MEMBERS:
        read, truth = pages[0].read(member), pages[1].read(member).answer
        assert read.answer == truth, f"the page of {member} is stale"
        found[member] = "same" if truth == before[member] else "new"
        if not read.is_hit:
            found[member] += ", loaded"
    return found


def expected(act: Act, found: Outcome) -> Outcome:
    """What had to be found, where *act* leaves a choice as it was *found*."""
    wanted = {}
    for member in MEMBERS:
        may_be = ["new, loaded"] if member in act.changes else ["same"]
        if member in act.loads and member not in act.changes:
            may_be.append("same, loaded")
        wanted[member] = found[member] if found[member] in may_be else may_be[0]
    return wanted


def made(site: WriteSite, act: Act, *, only_columns: bool = False) -> Outcome:
    """What the requests after *act*, and what ends it, are like."""
    pages = site.pages(only_columns=only_columns)
    before = pages[0].warm()
    with acting(site) as at:
        act.write(at)
        if not act.ends:
            at.commit()
        found = outcome(pages, before)
    site.soil(*(member for member in MEMBERS if found[member] != "same"))
    return found


@cases(ACTS)
def test_a_write_is_seen_and_loads_nobody_else_again(
    site_of: SiteOf, kind: str, name: str
) -> None:
    act = ACTS[name]
    found = made(site_of(kind), act, only_columns=name in SPELLINGS)
    assert found == expected(act, found)


@cases(OF_LOGIN_IDS, ":uid")
def test_a_write_is_seen_by_who_logs_in_with_another_column(
    site_of: SiteOf, kind: str, name: str
) -> None:
    act = OF_LOGIN_IDS[name]
    found = made(site_of(kind), act)
    assert found == expected(act, found)


@cases(CAN_BE_ROLLED_BACK)
def test_a_write_that_is_rolled_back_loads_nobody_again(
    site_of: SiteOf, kind: str, name: str
) -> None:
    site, act = site_of(kind), ACTS[name]
    before = site.full.warm()
    with acting(site) as at:
        act.write(at)
        at.session.flush()
        at.roll_back()
        reads = {member: site.full.read(member) for member in MEMBERS}
    assert {member: read.answer for member, read in reads.items()} == before
    assert all(read.is_hit for read in reads.values())
    site.soil()


@cases({name: replace(act, on=act.on[:1]) for name, act in CAN_BE_ROLLED_BACK.items()})
def test_a_request_sees_its_own_write_as_without_the_cache(
    site_of: SiteOf, kind: str, name: str
) -> None:
    """Whether its user was looked at before it, by an identity handler, or was not."""
    site, act = site_of(kind), ACTS[name]
    member = act.changes[0] if act.changes else 1

    def view(page: Page) -> list[Any]:
        at = At(site)
        try:
            seen = [tried(lambda: type(act.write(at))), tried(page.look)]
            at.roll_back()
        finally:
            at.close()
        return [*seen, tried(page.look)]

    for only_columns in {True, name not in LOOKED_AT_BEFORE}:
        page, alone = site.pages(only_columns=only_columns)
        before = page.warm((member,))
        seen, truth = (each.run(member, lambda e=each: view(e)) for each in (page, alone))
        assert seen == truth
        read = page.read(member)
        assert read.is_hit
        assert read.answer == before[member]
    site.soil()


def tried(act: Callable[[], Any]) -> Any:
    """What *act* returns, or how it fails: on a user who is gone, or there already."""
    try:
        return act()
    except Exception as error:
        return type(error).__name__


@cases(OF_OTHERS)
def test_a_page_made_of_users_alone_is_loaded_again_only_if_their_rows_change(
    site_of: SiteOf, kind: str, name: str
) -> None:
    site, act = site_of(kind), OF_OTHERS[name]
    pages = site.pages(only_columns=True)
    before = pages[0].warm()
    with acting(site) as at:
        act.write(at)
        at.commit()
    found = outcome(pages, before)
    if not any("new" in each for each in found.values()):
        assert found == dict.fromkeys(MEMBERS, "same")


@both
def test_a_view_that_commits_before_a_further_change_is_seen(site_of: SiteOf, kind: str) -> None:
    site = site_of(kind)
    before = site.full.warm()

    def view() -> list[str]:
        at = At(site)
        rename(at.session, at)
        seen = [current_user.name]
        at.session.commit()
        seen.append(current_user.name)
        put(at.ann, name="zoe")
        at.session.flush()
        seen.append(current_user.name)
        at.session.rollback()
        return [*seen, current_user.name]

    site.soil(*MEMBERS)
    assert site.full.run(1, view) == ["anne", "anne", "zoe", "anne"]
    found = outcome(site.pages(), before)
    assert found == {1: "new, loaded", 2: "same", 3: "same"}


@both
@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only"])
def test_the_commit_of_a_session_inside_a_transaction_of_others_is_told_at_once(
    site_of: SiteOf, kind: str, mode: Any
) -> None:
    """As test suites have it, where the application reads on the same connection."""
    site = site_of(kind)
    before = site.full.warm()
    with acting(site) as at:
        connection = at.connection()
        connection.exec_driver_sql("UPDATE thing SET name = 'x'")
        session = at.open(Session(connection, join_transaction_mode=mode))
        rename(session, at)
        assert outcome(site.pages(), before) == dict.fromkeys(MEMBERS, "same")
        session.commit()
        found = outcome(site.pages(), before)
        assert found == {1: "same, loaded", 2: "same", 3: "same"}
        assert outcome(site.pages(), before) == dict.fromkeys(MEMBERS, "same")
        connection.commit()
        found = outcome(site.pages(), before)
        assert found == {1: "new, loaded", 2: "same", 3: "same"}
