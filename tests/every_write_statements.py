"""Writes by statement: of the ORM, of SQLAlchemy's Core, as text, and by what the database does
along with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from every_write_acts import POSTGRES, At, nobodys, wide
from sqlalchemy.dialects import postgresql, sqlite

NEW = {"id": 3, "uid": "u3", "kind": "member", "name": "new", "settings": {}}

Make = Callable[[Any], Any]


def table(at: At, name: str) -> Any:
    """The table of a mapped class."""
    return getattr(at.m, name).__table__


def renaming(at: At, of: Any = None) -> Any:
    """The UPDATE that renames ann."""
    of = at.m.Member if of is None else of
    columns = getattr(of, "c", of)
    return sa.update(of).where(columns.id == 1).values(name="anne")


def execute(make: Make, *values: Any, **options: Any) -> Callable[[At], Any]:
    """The app's session executes what *make* makes of the models."""
    return lambda at: at.execute(make(at.m), *values, execution_options=options)


def synchronized(how: Any) -> Callable[[At], Any]:
    return lambda at: at.execute(renaming(at), execution_options={"synchronize_session": how})


def upsert(at: At, insert: Any = None) -> Any:
    """INSERT … ON CONFLICT DO UPDATE, of the database's own dialect."""
    dialect = sqlite if at.site.is_sqlite else postgresql
    made = dialect.insert(at.m.Member).values({**NEW, "id": 1})
    return made.on_conflict_do_update(index_elements=["id"], set_={"name": made.excluded.name})


def insert_or_nothing(at: At) -> Any:
    dialect = sqlite if at.site.is_sqlite else postgresql
    return dialect.insert(at.m.Member).values(NEW).on_conflict_do_nothing()


def copying(at: At) -> Any:
    """INSERT … SELECT: bob's roles for nobody else but ann, too."""
    pairs, roles = at.m.member_roles, table(at, "Role")
    other = sa.select(sa.literal(1), roles.c.id).where(roles.c.id == 2)
    return pairs.insert().from_select(["member_id", "role_id"], other)


def returning_into_select(at: At) -> Any:
    """SELECT … FROM a CTE that updates."""
    renamed = renaming(at, table(at, "Member")).returning(table(at, "Member").c.id).cte("renamed")
    return sa.select(renamed.c.id)


def deleting_into_insert(at: At) -> Any:
    """INSERT … SELECT FROM a CTE that deletes."""
    pairs, notes = at.m.member_roles, table(at, "Thing")
    gone = pairs.delete().where(pairs.c.member_id == 1).returning(pairs.c.role_id).cte("gone")
    return notes.insert().from_select(["id"], sa.select(gone.c.role_id + 10))


def moved_between_tables(at: At) -> Any:
    """UPDATE … FROM another table."""
    members, teams = table(at, "Member"), table(at, "Team")
    return (
        sa.update(members)
        .where(members.c.team_id == teams.c.id, members.c.id == 1)
        .values(name=teams.c.name)
    )


def on_detached(at: At) -> Any:
    """A connection that its pool has let go of."""
    connection = at.connection()
    connection.detach()
    return connection


def then_detached(at: At) -> None:
    connection = at.connection()
    connection.execute(renaming(at, table(at, "Member")))
    connection.detach()


BY_ORM = {
    "update": wide(execute(lambda m: sa.update(m.Member).values(name="x")), 1, 2),
    "update, evaluated": wide(synchronized("evaluate")),
    "update, fetched": wide(synchronized("fetch")),
    "update, automatic": wide(synchronized("auto")),
    "update, not synchronized": wide(synchronized(False)),
    "update by primary key": wide(
        lambda at: at.execute(sa.update(at.m.Member), [{"id": 1, "name": "anne"}])
    ),
    "update of a subclass by primary key": wide(
        lambda at: at.execute(sa.update(at.m.Admin), [{"id": 2, "name": "rob", "level": 9}]), 2
    ),
    "update of a subclass": wide(execute(lambda m: sa.update(m.Admin).values(level=9)), 2),
    "update returning": wide(lambda at: at.execute(renaming(at).returning(at.m.Member)).all()),
    "update returning, as rows": wide(
        lambda at: at.session.scalars(
            sa.select(at.m.Member).from_statement(renaming(at).returning(at.m.Member)),
            execution_options={"populate_existing": True},
        ).all()
    ),
    "insert": wide(execute(lambda m: sa.insert(m.Member).values(NEW)), 3),
    "insert of a list": wide(lambda at: at.execute(sa.insert(at.m.Member), [NEW]), 3),
    "insert of a subclass": wide(
        lambda at: at.execute(sa.insert(at.m.Admin), [{**NEW, "kind": "admin", "level": 1}]), 3
    ),
    "insert returning": wide(
        lambda at: at.session.scalars(sa.insert(at.m.Member).returning(at.m.Member), [NEW]).all(),
        3,
    ),
    "delete": wide(execute(lambda m: sa.delete(m.Profile)), 1),
    "delete of a user": wide(execute(lambda m: sa.delete(m.Member).where(m.Member.id == 1))),
    "delete, fetched": wide(
        execute(
            lambda m: sa.delete(m.Member).where(m.Member.id == 1), synchronize_session="fetch"
        )
    ),
    "delete returning": wide(
        lambda at: at.execute(
            sa.delete(at.m.Member).where(at.m.Member.id == 1).returning(at.m.Member.id)
        ).all()
    ),
    "query.update": wide(
        lambda at: at.session.query(at.m.Member).filter_by(name="ann").update({"name": "anne"})
    ),
    "query.delete": wide(
        lambda at: at.session.query(at.m.Member).filter_by(name="ann").delete()
    ),
    "upsert": wide(lambda at: at.execute(upsert(at))),
    "upsert returning": wide(lambda at: at.execute(upsert(at).returning(at.m.Member)).all()),
    "insert or nothing": wide(lambda at: at.execute(insert_or_nothing(at)), 3),
    "of roles": wide(execute(lambda m: sa.update(m.Role).values(name="x")), 1, 2),
    "of a second bind": wide(execute(lambda m: sa.update(m.Note).values(text="x"))),
    "of things": nobodys(execute(lambda m: sa.update(m.Thing).values(name="x"))),
    "of things, that reads users": nobodys(
        execute(
            lambda m: sa.update(m.Thing).where(m.Thing.id.in_(sa.select(m.Member.id))).values(
                name="x"
            ),
            synchronize_session=False,
        )
    ),
}  # fmt: skip

BY_CORE = {
    "core": wide(lambda at: at.session.connection().execute(renaming(at, table(at, "Member")))),
    "core, on an engine": wide(
        lambda at: at.connection().execute(renaming(at, table(at, "Member")))
    ),
    "core, on a detached connection": wide(
        lambda at: on_detached(at).execute(renaming(at, table(at, "Member")))
    ),
    "core, then detached": wide(then_detached),
    "core, schema translated": wide(
        lambda at: at.connection().execute(
            renaming(at, table(at, "Member")),
            execution_options={
                "schema_translate_map": {None: "main" if at.site.is_sqlite else "public"}
            },
        )
    ),
    "core, of many": wide(
        lambda at: at.connection().execute(
            sa.update(table(at, "Member"))
            .where(table(at, "Member").c.id == sa.bindparam("key"))
            .values(name=sa.bindparam("called")),
            [{"key": 1, "called": "anne"}, {"key": 2, "called": "rob"}],
        ), 1, 2
    ),
    "core, insert": wide(lambda at: at.connection().execute(table(at, "Member").insert(), NEW), 3),
    "core, insert of many": wide(
        lambda at: at.connection().execute(
            table(at, "Member").insert(), [NEW, {**NEW, "id": 4, "uid": "u4"}]
        ), 3
    ),
    "association inserted": wide(
        lambda at: at.execute(at.m.member_roles.insert().values(member_id=1, role_id=2))
    ),
    "association deleted": wide(lambda at: at.execute(at.m.member_roles.delete()), 1, 2),
    "association updated": wide(
        lambda at: at.execute(at.m.club_members.update().values(club_id=2)), 1, 2
    ),
    "ability's association": wide(
        lambda at: at.execute(sa.delete(at.m.db.metadata.tables["can"])), 1, 2
    ),
    "insert from select": wide(lambda at: at.execute(copying(at))),
    "update from": wide(lambda at: at.execute(moved_between_tables(at))),
    "delete using": wide(
        lambda at: at.execute(
            sa.delete(table(at, "Profile")).where(
                table(at, "Profile").c.member_id == table(at, "Member").c.id
            )
        ), on=(POSTGRES,)
    ),
    "select from what updates": wide(
        lambda at: at.execute(returning_into_select(at)).all(), on=(POSTGRES,)
    ),
    "insert from what deletes": wide(
        lambda at: at.execute(deleting_into_insert(at)), on=(POSTGRES,)
    ),
    "with, update": wide(
        lambda at: at.execute(
            renaming(at, table(at, "Member")).where(
                sa.exists(sa.select(sa.select(table(at, "Team").c.id).cte("t").c.id))
            )
        ), on=(POSTGRES,)
    ),
    "merge": wide(
        lambda at: at.execute(
            "MERGE INTO member USING (VALUES (1, 'anne')) AS v (id, name) ON member.id = v.id"
            " WHEN MATCHED THEN UPDATE SET name = v.name"
        ), on=(POSTGRES,)
    ),
    "temporary table": nobodys(
        lambda at: at.execute("CREATE TEMPORARY TABLE IF NOT EXISTS gone (id INTEGER)"),
        on=(POSTGRES,),
    ),
    "locked rows": nobodys(
        lambda at: at.session.scalars(sa.select(at.m.Member).with_for_update()).all()
    ),
}  # fmt: skip
