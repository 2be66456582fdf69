"""A change is seen by the very next request, whoever makes it and however, and nothing wider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from rows_site import (
    ANN,
    ANNE,
    MakeSite,
    Modules,
    RowsSite,
    name,
    sites_in,
    who,
)
from sqlalchemy.orm import Session

BOTH = {**ANN, "roles": ["reader", "writer"], "needs": {"reader", "writer"}}
LECTOR = {**ANN, "roles": ["lector"], "needs": {"lector"}}
NO_ROLE = {**ANN, "roles": [], "needs": set()}
NOBODY = {"id": None, "needs": set()}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSite]:
    with sites_in(tmp_path) as make_site:
        yield make_site


@pytest.fixture
def site(make: MakeSite) -> RowsSite:
    return make()


def ann(db: Any) -> Any:
    return db.session.get(db.User, 1)


def role(db: Any, role_id: int) -> Any:
    return db.session.get(db.Role, role_id)


def call_anne(db: Any) -> None:
    ann(db).name = "anne"


def on(act: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """What is done with ann, her role and another."""
    return lambda db: act(ann(db), role(db, 1), role(db, 2))


# What is done, what ann's next request shows, and whether bob, who is remembered too, has to be
# loaded again.
OF_ONE_USER = {
    "granted": (on(lambda ann, _, writer: ann.roles.append(writer)), BOTH),
    "granted by the role": (on(lambda ann, _, writer: writer.members.append(ann)), BOTH),
    "revoked": (on(lambda ann, reader, _: ann.roles.remove(reader)), NO_ROLE),
    "revoked by the role": (on(lambda ann, reader, _: reader.members.remove(ann)), NO_ROLE),
    "all revoked by the role": (on(lambda ann, reader, _: reader.members.clear()), NO_ROLE),
    "renamed": (call_anne, ANNE),
    "deleted": (lambda db: db.session.delete(ann(db)), NOBODY),
    "another id": (lambda db: setattr(ann(db), "id", 7), NOBODY),
}
OF_MANY = {
    "role renamed": (lambda db: setattr(role(db, 1), "name", "lector"), LECTOR),
    "role deleted": (lambda db: db.session.delete(role(db, 1)), NO_ROLE),
    "update": (lambda db: db.session.execute(sa.update(db.User).values(name="anne")), ANNE),
    "query.update": (lambda db: db.session.query(db.User).update({"name": "anne"}), ANNE),
    "update of one": (
        lambda db: db.session.execute(sa.update(db.User).filter_by(id=1).values(name="anne")),
        ANNE,
    ),
    "by primary key": (
        lambda db: db.session.execute(sa.update(db.User), [{"id": 1, "name": "anne"}]),
        ANNE,
    ),
    "delete": (lambda db: db.session.execute(sa.delete(db.User).filter_by(id=1)), NOBODY),
    "query.delete": (lambda db: db.session.query(db.User).filter_by(id=1).delete(), NOBODY),
    "update of roles": (
        lambda db: db.session.execute(sa.update(db.Role).values(name="lector")),
        LECTOR,
    ),
    "query.update of roles": (
        lambda db: db.session.query(db.Role).update({"name": "lector"}),
        LECTOR,
    ),
    "delete of what ties them": (
        lambda db: db.session.execute(sa.delete(db.User.roles.property.secondary)),
        NO_ROLE,
    ),
    "insert of what ties them": (
        lambda db: db.session.execute(
            sa.insert(db.User.roles.property.secondary).values(member_id=1, role_id=2)
        ),
        BOTH,
    ),
}


@pytest.mark.parametrize("change", OF_ONE_USER | OF_MANY)
def test_a_change_is_seen_by_the_very_next_request(site: RowsSite, change: str) -> None:
    act, expected = (OF_ONE_USER | OF_MANY)[change]
    client = site.warm()
    assert site.run(client) == ANN
    with site.elsewhere() as db:
        act(db)
    assert site.run(client) == expected


@pytest.mark.parametrize("change", OF_ONE_USER)
def test_a_change_of_one_user_loads_no_other_again(site: RowsSite, change: str) -> None:
    site.warm()
    bob = site.warm(2)
    with site.elsewhere() as db:
        OF_ONE_USER[change][0](db)
    assert not site.spent(bob)


@pytest.mark.parametrize("change", [key for key in OF_ONE_USER if "role" in key or "ed" in key])
def test_it_is_seen_where_the_two_sides_know_nothing_of_each_other(
    make: MakeSite, change: str
) -> None:
    act, expected = OF_ONE_USER[change]
    site = make(Modules(sides="apart"))
    client, bob = site.warm(), site.warm(2)
    with site.elsewhere() as db:
        act(db)
    assert site.run(client) == expected
    assert not site.spent(bob)


@pytest.mark.parametrize("change", ["granted", "renamed", "update", "deleted"])
def test_a_change_made_in_a_request_is_seen_by_the_next_one(site: RowsSite, change: str) -> None:
    act, expected = (OF_ONE_USER | OF_MANY)[change]
    client, admin = site.warm(), site.warm(2)

    def view() -> None:
        site.modules.session = site.modules.db.session
        assert current_user.name == "bob"
        act(site.modules)
        site.modules.db.session.commit()

    site.run(admin, view)
    assert site.run(client) == expected


def test_a_user_is_known_at_once_under_an_id_that_was_nobodys(site: RowsSite) -> None:
    client = site.client(2)
    with site.elsewhere() as db:
        db.session.delete(db.session.get(db.User, 2))
    assert site.run(client) == NOBODY
    assert site.spent(client).loads == 0
    with site.elsewhere() as db:
        db.session.add(db.User(id=2, name="eve"))
    assert site.run(client)["name"] == "eve"


def test_what_is_rolled_back_loads_nobody_again(site: RowsSite) -> None:
    client = site.warm()
    with site.elsewhere() as db:
        call_anne(db)
        db.session.execute(sa.update(db.Role).values(name="lector"))
        db.session.rollback()
    assert not site.spent(client)


def test_a_released_savepoint_changes_nothing_before_the_commit(site: RowsSite) -> None:
    client = site.warm()
    with site.elsewhere() as db:
        db.session.add(db.Thing())
        db.session.flush()
        with db.session.begin_nested():
            call_anne(db)
        assert not site.spent(client)
    assert site.run(client) == ANNE


def test_a_savepoint_released_in_what_is_rolled_back_loads_nobody_again(site: RowsSite) -> None:
    client = site.warm()
    with site.elsewhere() as db:
        db.session.add(db.Thing())
        db.session.flush()
        with db.session.begin_nested():
            call_anne(db)
        db.session.rollback()
    assert not site.spent(client)


def test_a_savepoint_rolled_back_in_what_is_committed_hides_nothing(site: RowsSite) -> None:
    client = site.warm()
    with site.elsewhere() as db:
        call_anne(db)
        db.session.flush()
        savepoint = db.session.begin_nested()
        user = ann(db)
        user.roles.clear()
        savepoint.rollback()
    assert site.run(client) == ANNE


def test_a_sessions_own_commit_inside_a_transaction_of_others_is_told(site: RowsSite) -> None:
    client = site.warm()
    with site.elsewhere(), site.engine.connect() as connection:
        outer = connection.begin()
        connection.execute(sa.insert(site.modules.Thing))
        mode: Any = "create_savepoint"
        with Session(connection, join_transaction_mode=mode) as session:
            session.get(site.modules.User, 1).name = "anne"
            session.flush()
            assert not site.spent(client)
            session.commit()
        assert site.spent(client).loads == 1
        assert not site.spent(client)  # what is committed for all, and remembered
        outer.commit()
    assert site.run(client) == ANNE


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_invalidate_before_the_commit_is_as_good_as_after_it(site: RowsSite, end: str) -> None:
    client = site.warm()
    with site.elsewhere() as db:
        driver = db.session.connection().connection.driver_connection
        driver.execute("UPDATE member SET name = 'anne'")  # which nobody sees
        site.cache.invalidate(ann(db))
        assert site.run(client) == ANN  # a reader in between
        assert not site.spent(client)
        getattr(db.session, end)()
    assert site.run(client) == (ANNE if end == "commit" else ANN)


def test_invalidate_in_a_view_is_as_good_before_its_commit(site: RowsSite) -> None:
    client = site.warm()

    def view() -> None:
        driver = site.modules.db.session.connection().connection.driver_connection
        driver.execute("UPDATE member SET name = 'anne'")
        site.cache.invalidate(current_user)
        assert site.run(site.client()) == ANN
        site.modules.db.session.commit()

    site.run(client, view)
    assert site.run(client) == ANNE


def seen_now(site: RowsSite, at: datetime) -> Callable[[], None]:
    def act() -> None:
        current_user.last_seen = at
        site.modules.db.session.commit()

    return act


def test_a_volatile_column_written_on_every_request_costs_no_load(make: MakeSite) -> None:
    site = make(volatile=("last_seen",))
    client = site.warm()
    for day in (1, 2, 3):
        spent = site.spent(client, seen_now(site, datetime(2024, 1, day)))
        assert (spent.loads, spent.signals) == (0, 0)
        with site.elsewhere() as db:
            assert ann(db).last_seen == datetime(2024, 1, day)


def test_a_column_that_is_not_volatile_is_loaded_again_after_each_write(site: RowsSite) -> None:
    client = site.warm()
    loads = [site.spent(client, seen_now(site, datetime(2024, 1, day))).loads for day in (1, 2, 3)]
    assert loads == [0, 1, 1]
    assert site.run(client, lambda: current_user.last_seen) == datetime(2024, 1, 3)


def test_a_volatile_column_hides_no_other_written_with_it(make: MakeSite) -> None:
    site = make(volatile=("last_seen",))
    client = site.warm()
    with site.elsewhere() as db:
        ann(db).last_seen = datetime(2024, 1, 1)
        call_anne(db)
    assert site.run(client) == ANNE


def test_a_request_sees_what_it_wrote_before_it_looked_at_the_user(make: MakeSite) -> None:
    site = make(Modules(handlers=False))
    client = site.warm()
    session, user = site.modules.db.session, site.modules.User

    def act() -> str:
        session.execute(sa.update(user).values(name="anne"))
        seen = current_user.name
        session.rollback()
        return seen

    assert site.run(client, act) == "anne"
    assert site.run(client, name) == "ann"


def test_a_request_sees_what_it_changed_of_its_user(site: RowsSite) -> None:
    client = site.warm()

    def act() -> list[Any]:
        site.modules.session = site.modules.db.session
        current_user.name = "anne"
        current_user.roles.append(role(site.modules, 2))
        seen = [who()]
        site.modules.db.session.commit()
        return [*seen, who()]

    both = {**BOTH, "name": "anne"}
    assert [{**each, "needs": both["needs"]} for each in site.run(client, act)] == [both, both]
    assert site.run(client) == both
