"""Scripts, shells, commands and task workers serve no request, and what they commit is seen by the
next request of a server all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from elsewhere.processes import ANN, BOB, Application, Browser, Read
from elsewhere.ways import WAYS

from wsgi_usercache.generations.claims import is_supported

pytest_plugins = ["postgres"]
pytestmark = pytest.mark.skipif(not is_supported(), reason="no state file on this system")

ways = pytest.mark.parametrize("way", WAYS)


class Readers:
    """A server of *application* with ann and bob, who are remembered, and whom to tell apart."""

    def __init__(self, application: Application, port: int) -> None:
        self.application = application
        self._ann, self._bob = Browser(port, ANN), Browser(port, BOB)

    def name_to_come(self) -> str:
        """A new name for ann, who is remembered under another."""
        for browser in (self._ann, self._bob):
            browser.warm()
        return self.application.new_name()

    def assert_seen(self, name: str, way: str) -> None:
        """The next request sees ann's *name*; bob's costs nothing if it is plain whose it is."""
        assert self._ann.read() == Read(name, loads=1)
        assert self._ann.read() == Read(name, loads=0)
        if way == "orm":
            assert self._bob.read() == Read("bob", loads=0)

    def assert_not_seen(self, name: str) -> None:
        """The next request is answered from memory, as if nothing had happened."""
        read = self._ann.read()
        assert read.name != name
        assert read.loads == 0


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    """One server for all tests: each gives ann a name nobody ever had."""
    folder = tmp_path_factory.mktemp("elsewhere")
    application = Application(folder, sa.URL.create("sqlite", database=f"{folder}/users.db"))
    with application.serving() as port:
        yield Readers(application, port)


@ways
def test_what_a_script_commits_is_seen(readers: Readers, way: str) -> None:
    name = readers.name_to_come()
    readers.application.run("elsewhere.script", way, ANN, name)
    readers.assert_seen(name, way)


@ways
def test_what_a_command_of_the_application_commits_is_seen(readers: Readers, way: str) -> None:
    name = readers.name_to_come()
    readers.application.run("flask", "--app", "elsewhere.app", "change", way, ANN, name)
    readers.assert_seen(name, way)


def test_what_is_typed_into_a_shell_is_seen_while_it_is_open(readers: Readers) -> None:
    with readers.application.shell() as shell:
        shell.do("from elsewhere.ways import change")
        for way in WAYS:
            name = readers.name_to_come()
            shell.do(f"change({way!r}, db.session, User, {ANN}, {name!r})")
            readers.assert_seen(name, way)


def test_what_a_task_commits_is_seen_once_its_result_is_there(readers: Readers) -> None:
    with readers.application.worker() as tasks:
        for way in WAYS:
            name = readers.name_to_come()
            tasks.do("change", way, ANN, name)
            readers.assert_seen(name, way)


@pytest.mark.parametrize("way", ["orm", "text"])
def test_what_a_script_committed_is_seen_though_it_was_killed_then(
    readers: Readers, way: str
) -> None:
    name = readers.name_to_come()
    readers.application.run("elsewhere.script", way, ANN, name, "killed", ends=-9)
    readers.assert_seen(name, way)


@ways
def test_what_a_script_commits_with_models_of_plain_sqlalchemy_is_seen(
    readers: Readers, way: str
) -> None:
    name = readers.name_to_come()
    readers.application.run("elsewhere.plain_script", way, ANN, name)
    readers.assert_seen(name, way)


def test_a_script_that_looks_for_the_state_file_elsewhere_is_not_seen(
    readers: Readers, tmp_path: Path
) -> None:
    name = readers.name_to_come()
    elsewhere = {"RUNTIME_DIRECTORY": str(tmp_path)}
    readers.application.run("elsewhere.script", "orm", ANN, name, **elsewhere)
    readers.assert_not_seen(name)
    readers.application.run("elsewhere.script", "orm", ANN, name := f"{name} again")
    readers.assert_seen(name, "orm")


def test_a_state_file_that_is_named_is_met_from_everywhere(
    database: sa.URL, tmp_path: Path
) -> None:
    named = {"USERCACHE_STATE_FILE": f"{tmp_path}/named.state"}
    application = Application(tmp_path, database, **named)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with application.serving() as port:
        readers = Readers(application, port)
        for way in ("orm", "text"):
            name = readers.name_to_come()
            application.run("elsewhere.script", way, ANN, name, RUNTIME_DIRECTORY=str(elsewhere))
            readers.assert_seen(name, way)
