"""Writes of the ORM: what a session flushes, and what it sends in bulk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from every_write_acts import EVERYBODY, Act, At, narrow, nobodys, put, wide
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import flag_modified


def member(at: At, key: int = 3, **more: Any) -> Any:
    """A new member."""
    return at.m.Member(**{"id": key, "uid": f"u{key}", "name": "new", **more})


def add(at: At, *rows: Any) -> None:
    at.session.add_all(rows)


def detached(at: At) -> Any:
    """Ann, as another session left her."""
    with Session(at.site.engine()) as other:
        return other.get(at.m.Member, 1)


def rename_detached(at: At) -> None:
    ann = detached(at)
    ann.name = "anne"
    add(at, ann)


def change_settings(at: At) -> None:
    ann = at.ann
    dict.update(ann.settings, theme="dark")  # which a Mutable does not see
    flag_modified(ann, "settings")


def make_another(at: At) -> None:
    other = at.ann
    at.session.expunge(other)
    make_transient(other)
    put(other, id=3, uid="u3")
    add(at, other)


def without_a_look(at: At) -> None:
    ann = at.m.Member(id=1)
    make_transient_to_detached(ann)
    add(at, ann)
    ann.name = "anne"


def with_listener(event: str, act: Callable[[At, Session], None]) -> Callable[[At], None]:
    """Ann is renamed, and on that *event* of the session *act* does more."""

    def write(at: At) -> None:
        session = at.session()

        def more(*_event: Any) -> None:
            act(at, session)

        sa.event.listen(session, event, more, once=True)
        at.ann.name = "anne"
        session.flush()

    return write


def rename_bob(at: At, session: Session) -> None:
    bob = session.get(at.m.Member, 2)
    assert bob is not None
    bob.name = "rob"


def rename_bob_by_statement(at: At, session: Session) -> None:
    session.execute(sa.update(at.m.Member).where(at.m.Member.id == 2).values(name="rob"))


def add_another(at: At, session: Session) -> None:
    session.add(member(at))


def grant_after_flush(at: At) -> None:
    """What a listener sends is not part of the flush, though of the same association."""
    session = at.session()

    def grant(*_event: Any) -> None:
        session.execute(at.m.member_roles.insert().values(member_id=2, role_id=2))

    sa.event.listen(session, "after_flush", grant, once=True)
    at.ann.roles.append(at.row("Role", 2))
    session.flush()


def with_mapper_listener(at: At) -> None:
    def more(_mapper: Any, _connection: Any, target: Any) -> None:
        target.settings = {"theme": "dark"}

    sa.event.listen(at.m.Member, "before_update", more)
    try:
        at.ann.name = "anne"
        at.session.flush()
    finally:
        sa.event.remove(at.m.Member, "before_update", more)


def save_in_bulk(at: At) -> None:
    ann = at.ann
    ann.name = "anne"
    at.session.bulk_save_objects([ann, at.m.Thing(id=2)])


def change_after_commit(at: At) -> None:
    ann = at.ann
    ann.name = "zoe"
    at.session.commit()
    ann.name = "anne"  # whose other attributes are expired
    at.session.commit()


def exchange(at: At) -> None:
    """Somebody else is given the login id that was ann's."""
    at.ann.uid = "u9"
    at.session.flush()
    at.bob.uid = "u1"


OF_USERS = {
    "attribute": narrow(lambda at: put(at.ann, name="anne")),
    "several columns": narrow(lambda at: put(at.ann, name="anne", uid="u9", team_id=None)),
    "of two users": narrow(lambda at: (put(at.ann, name="anne"), put(at.bob, name="rob")), 1, 2),
    "of a subclass": narrow(lambda at: put(at.bob, level=9), 2),
    "of a subclass and its parent": narrow(lambda at: put(at.bob, name="rob", level=9), 2),
    "value changed in place": narrow(lambda at: at.ann.settings.update(theme="dark")),
    "value flagged as changed": narrow(change_settings),
    "version counter": narrow(lambda at: put(at.row("Stamped", 1), name="anne")),
    "merged": narrow(lambda at: at.session.merge(at.m.Member(id=1, name="anne"))),
    "merged, a new one": narrow(lambda at: at.session.merge(member(at)), 3),
    "detached, then added": narrow(rename_detached),
    "never looked at": narrow(without_a_look),
    "made transient, and another": narrow(make_another, 3),
    "inserted under an id of nobody's": narrow(lambda at: add(at, member(at)), 3),
    "inserted with a role": narrow(
        lambda at: add(at, member(at, roles=[at.row("Role", 1)])), 3
    ),
    "inserted by the role": narrow(lambda at: at.row("Role", 1).members.append(member(at)), 3),
    "inserted, of a subclass": narrow(
        lambda at: add(at, at.m.Admin(id=3, uid="u3", level=1)), 3
    ),
    "inserted and changed": narrow(
        lambda at: (add(at, new := member(at)), at.session.flush(), put(new, name="newer")), 3
    ),
    "before_flush": narrow(with_listener("before_flush", rename_bob), 1, 2),
    "after_flush": narrow(with_listener("after_flush", add_another), 1, 3),
    "after_flush_postexec": narrow(with_listener("after_flush_postexec", rename_bob), 1, 2),
    "after_flush, by statement": wide(
        with_listener("after_flush", rename_bob_by_statement), 1, 2
    ),
    "after_flush, association by statement": wide(grant_after_flush, 1, 2),
    "before_update": narrow(with_mapper_listener),
    "flushed by a query": narrow(
        lambda at: (put(at.ann, name="anne"), at.session.scalars(sa.select(at.m.Thing)).all())
    ),
    "after a commit": narrow(change_after_commit, ends=True),
    # What the database takes with them could be anybody's.
    "deleted": wide(lambda at: at.session.delete(at.ann)),
    "deleted, of a subclass": wide(lambda at: at.session.delete(at.bob), 2),
    "another primary key": wide(lambda at: put(at.ann, id=3, uid="u3"), 1, 3),
    "deleted and inserted": wide(
        lambda at: (
            at.session.delete(at.ann), at.session.flush(), add(at, member(at, 1, name="anne"))
        )
    ),
}  # fmt: skip

MEMBERSHIPS = {
    "role appended": narrow(lambda at: at.ann.roles.append(at.row("Role", 2))),
    "role removed": narrow(lambda at: at.ann.roles.remove(at.row("Role", 1))),
    "roles replaced": narrow(lambda at: put(at.ann, roles=[at.row("Role", 2)])),
    "member appended": narrow(lambda at: at.row("Role", 2).members.append(at.ann)),
    "member removed": narrow(lambda at: at.row("Role", 1).members.remove(at.ann)),
    "members replaced": narrow(lambda at: put(at.row("Role", 1), members=[at.bob])),
    "members of another replaced": narrow(
        lambda at: put(at.row("Role", 2), members=[at.ann, at.bob]), 1, 2
    ),
    "members cleared": narrow(lambda at: at.row("Role", 1).members.clear(), 1, 2),
    "group appended": narrow(lambda at: at.ann.groups.append(at.row("Group", 2))),
    "group removed": narrow(lambda at: at.ann.groups.remove(at.row("Group", 1))),
    "groups replaced": narrow(lambda at: put(at.ann, groups=[at.row("Group", 2)])),
    "member of a group appended": narrow(lambda at: at.row("Group", 2).members.append(at.ann)),
    "member of a group removed": narrow(lambda at: at.row("Group", 1).members.remove(at.ann)),
    "members of a group replaced": narrow(lambda at: put(at.row("Group", 1), members=[at.bob])),
    "member of a crowd appended": narrow(lambda at: at.row("Group", 2).crowd.append(at.ann)),
    "member of a crowd removed": narrow(lambda at: at.row("Group", 1).crowd.remove(at.ann)),
    "one of many people added": narrow(lambda at: at.row("Group", 2).people.add(at.ann)),
    "one of many people removed": narrow(lambda at: at.row("Group", 1).people.remove(at.ann)),
    "team assigned": narrow(lambda at: put(at.ann, team=at.row("Team", 2))),
    "team left": narrow(lambda at: put(at.ann, team=None)),
    "team's member appended": narrow(lambda at: at.row("Team", 2).members.append(at.ann)),
    "team's member removed": narrow(lambda at: at.row("Team", 1).members.remove(at.ann)),
    "team's members replaced": narrow(lambda at: put(at.row("Team", 1), members=[at.bob])),
}

OF_OTHER_ROWS = {
    "role renamed": wide(lambda at: put(at.row("Role", 1), name="lector"), 1, 2),
    "role deleted": wide(lambda at: at.session.delete(at.row("Role", 1)), 1, 2),
    "ability given": wide(
        lambda at: at.row("Role", 1).abilities.append(at.row("Ability", 2)), 1, 2
    ),
    "ability taken": wide(lambda at: at.row("Role", 1).abilities.clear(), 1, 2),
    "ability renamed": wide(lambda at: put(at.row("Ability", 1), name="look"), 1, 2),
    "ability deleted": wide(lambda at: at.session.delete(at.row("Ability", 1)), 1, 2),
    "group renamed": wide(lambda at: put(at.row("Group", 1), name="draughts"), 1, 2),
    "group deleted": wide(lambda at: at.session.delete(at.row("Group", 1)), 1, 2),
    "team renamed": wide(lambda at: put(at.row("Team", 1), name="green"), 1, 2),
    "team moved": Act(lambda at: put(at.row("Team", 1), organisation_id=2), (), EVERYBODY),
    "organisation renamed": nobodys(lambda at: put(at.row("Organisation", 1), name="new")),
    "profile edited": wide(lambda at: put(at.ann.profile, bio="new")),
    "profile replaced": wide(lambda at: put(at.ann, profile=at.m.Profile(id=2, bio="new"))),
    "profile deleted": wide(lambda at: put(at.ann, profile=None)),
    "profile added": wide(lambda at: put(at.bob, profile=at.m.Profile(id=2, bio="new")), 2),
    "note added": wide(lambda at: add(at, at.m.Note(id=2, member_id=1, text="new"))),
    "note edited": wide(lambda at: put(at.row("Note", 1), text="new")),
    "note deleted": wide(lambda at: at.session.delete(at.row("Note", 1))),
    "thing added": nobodys(lambda at: add(at, at.m.Thing(id=2))),
    "thing edited": nobodys(lambda at: put(at.row("Thing", 1), name="new")),
    "thing deleted": nobodys(lambda at: at.session.delete(at.row("Thing", 1))),
    "team added": wide(
        lambda at: put(at.ann, team=at.m.Team(id=3, name="new")), 1
    ),
}  # fmt: skip

IN_BULK = {
    "bulk_save_objects": wide(save_in_bulk),
    "bulk_save_objects, new": wide(lambda at: at.session.bulk_save_objects([member(at)]), 3),
    "bulk_insert_mappings": wide(
        lambda at: at.session.bulk_insert_mappings(
            at.m.Member, [{"id": 3, "uid": "u3", "kind": "member", "name": "new"}]
        ), 3
    ),
    "bulk_update_mappings": wide(
        lambda at: at.session.bulk_update_mappings(at.m.Member, [{"id": 1, "name": "anne"}])
    ),
    "bulk_update_mappings of a subclass": wide(
        lambda at: at.session.bulk_update_mappings(at.m.Admin, [{"id": 2, "level": 9}]), 2
    ),
    "bulk_update_mappings of roles": wide(
        lambda at: at.session.bulk_update_mappings(at.m.Role, [{"id": 1, "name": "new"}]), 1, 2
    ),
}  # fmt: skip

FLUSHES: dict[str, Act] = OF_USERS | MEMBERSHIPS | OF_OTHER_ROWS | IN_BULK

# Where users log in with another column than their key.
OF_LOGIN_IDS = {
    "attribute": narrow(lambda at: put(at.ann, name="anne")),
    "another login id": narrow(lambda at: put(at.ann, uid="u3"), 1, 3),
    "another login id, of a subclass": narrow(lambda at: put(at.bob, uid="u3", level=9), 2, 3),
    "another's login id": narrow(exchange, 1, 2),
    "another login id, merged": narrow(
        lambda at: at.session.merge(at.m.Member(id=1, uid="u3")), 1, 3
    ),
    "another login id, by statement": wide(
        lambda at: at.execute(sa.update(at.m.Member).where(at.m.Member.id == 1).values(uid="u3")),
        1, 3,
    ),
    "another primary key": wide(lambda at: put(at.ann, id=9)),
    "inserted": narrow(lambda at: add(at, member(at)), 3),
    "deleted": wide(lambda at: at.session.delete(at.ann)),
    "after a commit": narrow(change_after_commit, ends=True),
    "role appended": narrow(lambda at: at.ann.roles.append(at.row("Role", 2))),
    "member removed": narrow(lambda at: at.row("Role", 1).members.remove(at.ann)),
    "team's member appended": narrow(lambda at: at.row("Team", 2).members.append(at.ann)),
    # Who was never looked at goes by a login id that nobody knows.
    "never looked at": wide(without_a_look),
}  # fmt: skip
