"""The sites on which every write is made: one for each database and module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa
from every_write_site import SiteOf, WriteSite


@pytest.fixture(scope="module")
def site_of(postgres: sa.URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteOf]:
    """Looks up the site of a kind, its rows as they were at first. A kind is the name of a
    database, and after a colon what users log in with."""
    sites: dict[str, WriteSite] = {}
    folder = tmp_path_factory.mktemp("writes")
    server = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def look_up(kind: str) -> WriteSite:
        if kind not in sites:
            database, _, login = kind.partition(":")
            name = f"usercache_{uuid4().hex}"
            url = f"sqlite:///{folder}/{name}.db"
            if database != "sqlite":
                with server.connect() as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE {name}")
                url = postgres.set(database=name).render_as_string(hide_password=False)
            sites[kind] = WriteSite(url, login=login or "id")
        sites[kind].fresh()
        return sites[kind]

    yield look_up
    for site in sites.values():
        site.close()
        if not site.is_sqlite:
            with server.connect() as connection:
                name = sa.make_url(site.url).database
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
