"""What no library tells of is seen when it is announced, and by itself when its time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from every_write_acts import BOTH, POSTGRES, At, acting
from every_write_site import MEMBERS, TTL, SiteOf, WriteSite
from every_write_texts import UPDATE

from wsgi_usercache import UserCache

pytest_plugins = ["every_write_sites", "postgres"]


def raw_connection(at: At) -> None:
    raw = at.site.engine().raw_connection()
    raw.cursor().execute(UPDATE)
    raw.commit()
    raw.close()


def driver_of_a_session(at: At) -> None:
    at.session.connection().connection.driver_connection.execute(UPDATE)
    at.session.commit()


def another_program(at: At) -> None:
    with at.site.another_program() as connection:
        connection.execute(UPDATE)
    connection.close()


def trigger(at: At) -> None:
    at.session.add(at.m.Thing(id=2, name="trigger"))
    at.session.commit()


def function(at: At) -> None:
    at.execute("SELECT rename_ann()")
    at.session.commit()


def view(at: At) -> None:
    at.execute("UPDATE everybody SET name = 'anne' WHERE id = 1")
    at.session.commit()


UNSEEN: dict[str, tuple[Callable[[At], None], tuple[str, ...]]] = {
    "raw connection": (raw_connection, BOTH),
    "driver of a session": (driver_of_a_session, BOTH),
    "another program": (another_program, BOTH),
    "trigger": (trigger, BOTH),
    "function": (function, (POSTGRES,)),
    "view": (view, (POSTGRES,)),
}
TOLD: dict[str, Callable[[UserCache], Any]] = {
    "invalidate": lambda cache: cache.invalidate(1),
    "clear": lambda cache: cache.clear(),
}

cases = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for name, (_, on) in UNSEEN.items() for kind in on]
)


def write(site: WriteSite, name: str) -> None:
    with acting(site) as at:
        UNSEEN[name][0](at)


def shown(site: WriteSite) -> str:
    """The name that ann's next request shows."""
    return str(site.full.read(1).answer["user"]["name"])


@cases
def test_a_write_that_nobody_tells_of_is_seen_when_its_time_is_up(
    site_of: SiteOf, kind: str, name: str
) -> None:
    site = site_of(kind)
    site.full.warm()
    site.full.forget(1)
    assert not site.full.read(1).is_hit  # it counts from now on
    write(site, name)
    assert site.alone.read(1).answer["user"]["name"] == "anne"
    site.clock.now += TTL - 1
    assert shown(site) == "ann"
    assert site.full.read(1).is_hit
    site.clock.now += 1
    assert shown(site) == "anne"
    assert site.full.read(1).is_hit


@cases
@pytest.mark.parametrize("told", TOLD)
def test_a_write_that_is_told_of_afterwards_is_seen_by_the_next_request(
    site_of: SiteOf, kind: str, name: str, told: str
) -> None:
    site = site_of(kind)
    site.full.warm()
    write(site, name)
    assert shown(site) == "ann"
    TOLD[told](site.full.cache)
    assert shown(site) == "anne"
    assert site.full.read(2).is_hit == (told == "invalidate")


@cases
def test_a_write_inside_a_fence_is_seen_while_it_stands_and_afterwards(
    site_of: SiteOf, kind: str, name: str
) -> None:
    site = site_of(kind)
    site.full.warm()
    with site.full.cache.changing(1):
        assert site.full.read(1).loads == 1
        write(site, name)
        assert shown(site) == "anne"
        assert site.full.read(1).loads == 1
        assert site.full.read(2).is_hit
    assert shown(site) == "anne"
    assert all(site.full.read(member).is_hit for member in MEMBERS)
