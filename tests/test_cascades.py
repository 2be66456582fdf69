"""What the database changes by itself, after what its tables' foreign keys say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from wsgi_usercache.adapters.sqlalchemy import cascades

NAMES = ["Alpha", "beta", "gamma", "delta"]
ACTIONS = ["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION", None]

References = list[tuple[int, int, str | None, str | None]]


_schemas = count()  # what is known of a table is never forgotten: each schema has its own


def schema(references: References) -> tuple[sa.MetaData, list[sa.Table]]:
    """Tables of those names; each reference is (from, to, ON DELETE, ON UPDATE)."""
    metadata, number = sa.MetaData(), next(_schemas)
    tables, names = [], [f"{name}{number}" for name in NAMES]
    for index, name in enumerate(names):
        keys = [
            sa.Column(f"ref{n}", sa.ForeignKey(f"{names[to]}.id", ondelete=gone, onupdate=moved))
            for n, (source, to, gone, moved) in enumerate(references)
            if source == index
        ]
        columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.Integer)
        tables.append(sa.Table(name, metadata, *columns, *keys))
    return metadata, tables


def statements(table: sa.Table) -> list[Any]:
    """Writes to one table, as SQLAlchemy and as people write them."""
    return [
        sa.delete(table).where(table.c.id == 1),
        sa.update(table).values(id=7).where(table.c.id == 1),
        sa.update(table).values(note=sa.select(sa.func.max(table.c.id)).scalar_subquery(), id=8)
        .where(table.c.id == 1),
        sa.update(table).values(note=5).where(table.c.id == 1),
        sa.text(f'update "{table.name}" set "id"=9 where id=1'),
        sa.text(f'DELETE FROM "{table.name}"'),
        sa.text(f'REPLACE INTO "{table.name}" (id, note) VALUES (1, 3)'),
        sa.text(f'INSERT INTO "{table.name}" (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id=6'),
        sa.insert(table).values(id=3, note=1),
    ]  # fmt: skip


@contextmanager
def filled(metadata: sa.MetaData, tables: list[sa.Table]) -> Iterator[sa.Engine]:
    """A database in which two rows of each table refer to one each of the others."""
    engine = sa.create_engine("sqlite://")
    sa.event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys=1"))
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=1")
            for number in (1, 2):
                for table in tables:
                    keys = {c.name: number for c in table.c if c.name.startswith("ref")}
                    connection.execute(sa.insert(table).values(id=number, note=number, **keys))
        yield engine
    finally:
        engine.dispose()


def contents(connection: sa.Connection, tables: list[sa.Table]) -> dict[str, Any]:
    return {t.name.lower(): sorted(map(str, connection.execute(sa.select(t)))) for t in tables}


refers = st.tuples(
    st.integers(0, 3), st.integers(0, 3), st.sampled_from(ACTIONS), st.sampled_from(ACTIONS)
)


@given(st.lists(refers, max_size=5), st.integers(0, 3), st.data())
@example([(1, 0, "SET NULL", "CASCADE"), (2, 1, "CASCADE", None)], 0, None)
def test_no_table_changes_that_was_not_foreseen(
    references: References, target: int, data: st.DataObject | None
) -> None:
    metadata, tables = schema(references)
    choices = statements(tables[target])
    chosen = choices if data is None else [data.draw(st.sampled_from(choices))]
    cascades.learn(metadata)
    with filled(metadata, tables) as engine:
        for statement in chosen:
            written = tables[target].name.lower()
            foreseen = cascades.reached([written], str(statement.compile(engine))) | {written}
            with engine.connect() as connection:
                before = contents(connection, tables)
                try:
                    connection.execute(statement)
                except sa.exc.IntegrityError:
                    continue
                after = contents(connection, tables)
            changed = {name for name in before if before[name] != after[name]}
            assert changed <= foreseen


@pytest.mark.parametrize(
    ("sql", "reached"),
    [
        ("DELETE FROM firms", {"teams", "people"}),
        ("delete from firms where id = 1", {"teams", "people"}),
        ("UPDATE firms SET name = 'x' WHERE firms.id = 1", set()),
        ('UPDATE firms SET "id" = 2 WHERE firms.id = 1', {"teams"}),
        ("UPDATE firms SET (id, name) = (2, 'x')", {"teams"}),
        ("TRUNCATE firms CASCADE", {"teams", "people", "badges"}),
        ("TRUNCATE firms", set()),
        ("INSERT INTO firms VALUES (1)", set()),
        ("MERGE INTO firms USING x ON (true) WHEN MATCHED THEN DELETE", {"teams", "people"}),
    ],
)
def test_no_more_is_foreseen_than_the_statement_may_do(sql: str, reached: set[str]) -> None:
    """A team goes with its firm and leaves its people; a badge holds on to whom it is for."""
    metadata = sa.MetaData()
    for name, key in [
        ("firms", None),
        ("teams", sa.ForeignKey("firms.id", ondelete="CASCADE", onupdate="CASCADE")),
        ("people", sa.ForeignKey("teams.id", ondelete="SET NULL", onupdate="CASCADE")),
        ("badges", sa.ForeignKey("people.id")),
    ]:
        columns = [] if key is None else [sa.Column("of", key)]
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    cascades.learn(metadata)
    assert cascades.reached(["firms"], sql) == reached
