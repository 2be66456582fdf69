"""Mapped classes that are not as simple as they look, and rows read without a statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask_login import current_user
from flask_principal import Identity, Permission, Principal, RoleNeed, identity_loaded
from odd_site import MakeOddSite, odd_sites_in
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import keyfunc_mapping

from wsgi_usercache import UserCache


@pytest.fixture
def make(tmp_path: Path, make_cache: Callable[..., UserCache]) -> Iterator[MakeOddSite]:
    with odd_sites_in(tmp_path, make_cache) as make_site:
        yield make_site


def test_a_user_with_a_column_property_is_updated_and_seen(make: MakeOddSite) -> None:
    site = make()
    db = site.db

    class Post(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        user_id = db.Column(db.Integer)

    User = site.user_class()
    count = sa.select(sa.func.count(Post.id)).where(Post.user_id == User.id)
    User.posts = db.column_property(count.scalar_subquery())
    site.look = lambda: f"{current_user.name} {current_user.posts}"
    site.fill(User(name="ann"), Post(user_id=1))
    client = site.warm()
    assert client.get("/").text == "ann 1"
    site.change(User, name="anne")
    assert client.get("/").text == "anne 1"
    site.change(Post, user_id=2)
    assert client.get("/").text == "anne 0"


def test_a_relation_through_other_users_changes_with_them(make: MakeOddSite) -> None:
    site = make(load=["led"])
    db = site.db

    class Dept(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String)

    User = site.user_class(
        boss_id=db.Column(db.ForeignKey("user.id")), dept_id=db.Column(db.ForeignKey("dept.id"))
    )
    staff = User.__table__.alias("staff")
    User.led = db.relationship(
        Dept, secondary=staff, viewonly=True,
        primaryjoin=User.id == staff.c.boss_id, secondaryjoin=Dept.id == staff.c.dept_id,
    )  # fmt: skip
    site.look = lambda: ",".join(dept.name for dept in current_user.led)
    site.fill(Dept(name="a"), Dept(name="b"), User(name="ann"), User(boss_id=1, dept_id=1))
    client = site.warm()
    assert client.get("/").text == "a"
    site.change(User, 2, dept_id=2)
    assert client.get("/").text == "b"


def test_collections_keyed_by_what_their_members_lead_to_are_kept(make: MakeOddSite) -> None:
    site = make(load=["grants.role", "places"])
    db = site.db

    class Role(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String)

    class Grant(db.Model):
        user_id = db.Column(db.ForeignKey("user.id"), primary_key=True)
        role_id = db.Column(db.ForeignKey("role.id"), primary_key=True)
        role = db.relationship(Role)

    class Place(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        user_id = db.Column(db.ForeignKey("user.id"))
        number = db.Column(db.Integer)

    User = site.user_class(
        grants=db.relationship(
            Grant, collection_class=keyfunc_mapping(lambda grant: grant.role.name)
        ),
        places=db.relationship(
            Place, order_by=Place.number, collection_class=ordering_list("number")
        ),
    )

    def look() -> Any:
        numbers = [place.number for place in current_user.places]
        return list(current_user.grants), numbers, len(db.session.dirty)

    site.look = look
    site.fill(Role(name="reader"), User(name="ann"), Grant(user_id=1, role_id=1))
    site.fill(*(Place(user_id=1, number=number) for number in (3, 7)))
    client = site.warm()
    assert client.get("/").text == "(['reader'], [3, 7], 0)"
    assert "load event" not in site.stats.unstored
    assert not site.stats.lazy_loads
    site.change(Role, name="lector")
    assert client.get("/").text == "(['lector'], [3, 7], 0)"


def test_a_load_listener_that_takes_no_user_from_memory_gets_them_from_the_database(
    make: MakeOddSite,
) -> None:
    site = make()
    User = site.user_class()
    refused = []

    @sa.event.listens_for(User, "load")
    def tag(user: Any, context: Any) -> None:
        if context is None:
            refused.append(user)
            raise ValueError("loaded by whom?")
        user.tag = "tagged"

    site.look = lambda: f"{current_user.name} {current_user.tag}"
    site.fill(User(name="ann"))
    client = site.client()
    for _ in range(4):
        assert client.get("/").text == "ann tagged"
    assert refused, "nothing was made from memory"
    stats = site.stats
    assert stats.hits == 0, "a user that had to be loaded is no hit"
    assert stats.loads == stats.misses == 4
    site.change(User, name="anne")
    assert client.get("/").text == "anne tagged"


def test_a_row_the_loader_finds_in_its_session_counts_as_read(make: MakeOddSite) -> None:
    site = make(binds=("meta",))
    db = site.db

    class Tenant(db.Model):
        __bind_key__ = "meta"
        id = db.Column(db.Integer, primary_key=True)
        active = db.Column(db.Boolean)

    User = site.user_class(tenant_id=db.Column(db.Integer))
    # The session holds rows weakly: somebody does as the application's `g` would.
    held: list[Any] = []
    site.app.before_request(lambda: held.append(db.session.get(Tenant, 1)))
    site.app.teardown_request(lambda _error: held.clear())

    @site.manager.user_loader
    def load(user_id: str) -> Any:
        user = db.session.get(User, int(user_id))
        return user if db.session.get(Tenant, user.tenant_id).active else None

    site.fill(User(name="ann", tenant_id=1), Tenant(active=True))
    client = site.warm()
    assert client.get("/").text == "ann"
    site.change(Tenant, active=False)
    assert client.get("/").text == "nobody"


def test_a_row_the_handlers_find_in_their_session_counts_as_read(make: MakeOddSite) -> None:
    site = make(binds=("meta",))
    db = site.db

    class Org(db.Model):
        __bind_key__ = "meta"
        id = db.Column(db.Integer, primary_key=True)
        plan = db.Column(db.String)

    User = site.user_class()
    held: list[Any] = []
    site.app.before_request(lambda: held.append(db.session.get(Org, 1)))
    site.app.teardown_request(lambda _error: held.clear())
    signals: list[Any] = []
    principal = Principal(site.app, use_sessions=False)
    principal.identity_loader(
        lambda: Identity(current_user.id) if current_user.is_authenticated else None
    )

    @identity_loaded.connect_via(site.app)
    def provide(_app: Any, identity: Identity) -> None:
        signals.append(identity)
        if db.session.get(Org, 1).plan == "pro":
            identity.provides.add(RoleNeed("pro"))

    site.look = Permission(RoleNeed("pro")).can
    site.fill(User(name="ann"), Org(plan="pro"))
    client = site.warm()
    signals.clear()
    assert client.get("/").text == "True"
    assert not signals, "the needs are not remembered"
    site.change(Org, plan="free")
    assert client.get("/").text == "False"
