"""Writes as text, and what the database changes along with a write by its foreign keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from every_write_acts import EVERYBODY, POSTGRES, SQLITE, Act, At, nobodys, put, wide
from every_write_statements import BY_CORE, BY_ORM, table

INSERT = "member (id, uid, kind, name, settings, edited, version) VALUES"
ANNE = "(1, 'u1', 'member', 'anne', '{}', 0, 1)"
NEW = "(3, 'u3', 'member', 'new', '{}', 0, 1)"
UPDATE = "UPDATE member SET name = 'anne' WHERE id = 1"

# Statements by which ann is renamed, wherever they are understood.
_RENAMING = {
    "update": UPDATE,
    "lower case": UPDATE.lower(),
    "upper case": "UPDATE MEMBER SET NAME = 'anne' WHERE ID = 1",
    "quoted": """UPDATE "member" SET "name" = 'anne' WHERE "id" = 1""",
    "leading comment": f"/* for member 1 */ {UPDATE}",
    "leading line of comment": f"-- a rename\n{UPDATE}",
    "comments within": "UPDATE/**/member/**/SET name = 'anne' WHERE id = 1",
    "leading space": f"\n\t {UPDATE}",
    "lines": UPDATE.replace(" ", "\n"),
    "alias": "UPDATE member AS m SET name = 'anne' WHERE m.id = 1",
    "semicolon": f"{UPDATE};",
    "returning": f"{UPDATE} RETURNING id",
    "like a select": f"{UPDATE} AND EXISTS (SELECT 1 FROM team)",
}
_ON_SQLITE = {
    "schema-qualified": UPDATE.replace("member", "main.member"),
    "schema-qualified and quoted": UPDATE.replace("member", '"main"."member"'),
    "brackets": UPDATE.replace("member", "[member]"),
    "backticks": UPDATE.replace("member", "`member`"),
    "or ignore": UPDATE.replace("UPDATE", "UPDATE OR IGNORE"),
    "replace": f"REPLACE INTO {INSERT} {ANNE}",
    "insert or replace": f"INSERT OR REPLACE INTO {INSERT} {ANNE}",
}
_ON_PG = {
    "schema-qualified": UPDATE.replace("member", "public.member"),
    "schema-qualified and quoted": UPDATE.replace("member", '"public"."member"'),
    "only": UPDATE.replace("member", "ONLY member"),
    "with": f"WITH renamed AS ({UPDATE} RETURNING id) SELECT * FROM renamed",
    "with, lower case": f"with renamed as ({UPDATE.lower()} returning id) select * from renamed",
    "with, before": "WITH t AS (SELECT 1 AS id) UPDATE member SET name = 'anne' FROM t"
    " WHERE member.id = t.id",
    "merge": "MERGE INTO member m USING (SELECT 1 AS id) AS v ON m.id = v.id"
    " WHEN MATCHED THEN UPDATE SET name = 'anne'",
    "with, and what looks like a comment": "WITH t AS (SELECT '-- anne' AS name)"
    " UPDATE member SET name = t.name FROM t WHERE id = 1",
    "of several, and what looks like a comment": f"SELECT '/*'; {UPDATE}; SELECT '*/'",
    "a comment within a comment": f"/* one /* two */ SELECT */ {UPDATE}",
    "explained": f"EXPLAIN ANALYZE {UPDATE}",
    "of several": f"SELECT 1; {UPDATE}",
    "first of several": f"{UPDATE}; SELECT 1",
    "of several, in a comment": f"SELECT 1 /* ; */; /* ; */ {UPDATE}",
}


def text(statement: str) -> Callable[[At], Any]:
    return lambda at: at.execute(statement)


def driver(statement: str) -> Callable[[At], Any]:
    return lambda at: at.session.connection().exec_driver_sql(statement)


def prepared(at: At) -> None:
    connection = at.session.connection()
    connection.exec_driver_sql(f"PREPARE renaming AS {UPDATE}")
    connection.exec_driver_sql("EXECUTE renaming")
    connection.exec_driver_sql("DEALLOCATE renaming")


def many_of_driver(at: At) -> None:
    mark = "?" if at.site.is_sqlite else "%s"
    at.session.connection().exec_driver_sql(
        f"UPDATE member SET name = {mark} WHERE id = {mark}", [("anne", 1), ("rob", 2)]
    )


# Ways to say that rows of users are written; what else pages show does not matter.
SPELLINGS: dict[str, Act] = {
    **{f"text: {how}": wide(text(sql)) for how, sql in _RENAMING.items()},
    **{f"text: {how}, here": wide(text(sql), on=(SQLITE,)) for how, sql in _ON_SQLITE.items()},
    **{f"text: {how}, there": wide(driver(sql), on=(POSTGRES,)) for how, sql in _ON_PG.items()},
    "text: insert": wide(text(f"INSERT INTO {INSERT} {NEW}".replace(":", "\\:")), 3),
    "text: delete": wide(text("DELETE FROM member WHERE id = 1")),
    "text: parameters": wide(
        lambda at: at.execute(
            "UPDATE member SET name = :name WHERE id = :id", {"name": "anne", "id": 1}
        )
    ),
    "text: parameters of many": wide(
        lambda at: at.execute(
            "UPDATE member SET name = :name WHERE id = :id",
            [{"name": "anne", "id": 1}, {"name": "rob", "id": 2}],
        ), 1, 2
    ),
    "text: columns": wide(
        lambda at: at.execute(
            sa.text(f"{UPDATE} RETURNING id").columns(id=sa.Integer)
        ).all()
    ),
    "text: as rows": wide(
        lambda at: at.session.scalars(
            sa.select(at.m.Member).from_statement(
                sa.text(f"{UPDATE} RETURNING member.*")
            ).execution_options(populate_existing=True)
        ).all(), on=(POSTGRES,)
    ),
    "driver: update": wide(driver(UPDATE)),
    "driver: many": wide(many_of_driver, 1, 2),
    # A block may commit by itself, which its END looks like: rolled back, it counts all the same.
    "driver: block": wide(
        lambda at: (driver(f"DO $$ BEGIN {UPDATE}; END $$")(at), at.session.commit()),
        on=(POSTGRES,), ends=True,
    ),
    "driver: procedure": wide(driver("CALL rename_somebody(1)"), on=(POSTGRES,)),
    "driver: procedure, that is told a table's name": wide(
        driver("CALL rename_somebody(1, 'thing')"), on=(POSTGRES,)
    ),
    # Python's driver for SQLite sends no BEGIN before it.
    "text: with": wide(
        lambda at: (
            at.execute(f"WITH t AS (SELECT 1) {UPDATE}"),
            at.session.rollback() if at.site.is_sqlite else at.session.commit(),
        ), ends=True
    ),
    "driver: prepared": wide(prepared, on=(POSTGRES,)),
}  # fmt: skip

BY_TEXT = {
    "text: association": wide(text("INSERT INTO member_roles VALUES (1, 2)")),
    "text: role": wide(text("UPDATE role SET name = 'x'"), 1, 2),
    "text: thing": nobodys(text("UPDATE thing SET name = 'x'")),
    # A name is a name, wherever it stands.
    "text: thing, that has a table's name": Act(
        text("UPDATE thing SET name = 'member'"), (), EVERYBODY
    ),
    "truncate": wide(text("TRUNCATE member CASCADE"), 1, 2, on=(POSTGRES,)),
    "truncate of teams": wide(text("TRUNCATE TABLE team CASCADE"), 1, 2, on=(POSTGRES,)),
    "truncate of two": wide(text("TRUNCATE thing, member_roles"), 1, 2, on=(POSTGRES,)),
}


def loaded_team_deleted(at: At) -> None:
    team = at.row("Team", 1)
    assert len(team.members) == 2
    at.session.delete(team)


def where_first(at: At, name: str) -> Any:
    return table(at, name).c.id == 1


def delete_first(name: str) -> Callable[[At], Any]:
    return lambda at: at.execute(sa.delete(table(at, name)).where(where_first(at, name)))


def renumber_first(name: str) -> Callable[[At], Any]:
    return lambda at: at.execute(
        sa.update(table(at, name)).where(where_first(at, name)).values(id=9)
    )


CASCADES = {
    "team deleted, its members loaded": wide(loaded_team_deleted, 1, 2),
    "team deleted, its members not loaded": wide(
        lambda at: at.session.delete(at.row("Team", 1)), 1, 2
    ),
    "team deleted by statement": wide(delete_first("Team"), 1, 2),
    "team deleted by text": wide(text("DELETE FROM team WHERE id = 1"), 1, 2),
    "organisation deleted": wide(
        lambda at: at.session.delete(at.row("Organisation", 1)), 1, 2
    ),
    "organisation deleted by statement": wide(delete_first("Organisation"), 1, 2),
    "organisation deleted by text": wide(text("DELETE FROM organisation WHERE id = 1"), 1, 2),
    "team renumbered": wide(lambda at: put(at.row("Team", 1), id=9), 1, 2),
    "team renumbered by statement": wide(renumber_first("Team"), 1, 2),
    "team renumbered by text": wide(text("UPDATE team SET id = 9 WHERE id = 1"), 1, 2),
    "role deleted by statement": wide(delete_first("Role"), 1, 2),
    "role deleted by text": wide(text("DELETE FROM role WHERE id = 1"), 1, 2),
    "user deleted by statement": wide(delete_first("Member")),
    "user renumbered by text": wide(text("UPDATE member SET id = 3 WHERE id = 1"), 1, 3),
}  # fmt: skip

STATEMENTS: dict[str, Act] = BY_ORM | BY_CORE | SPELLINGS | BY_TEXT | CASCADES
