"""Which room may know of which, and of which library? The table is held against the files."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import wsgi_usercache

PACKAGE = Path(wsgi_usercache.__file__).parent
LONGEST = 300  # lines


class May(NamedTuple):
    """What a room may import: other rooms, and libraries that are not Python's own."""

    rooms: str = ""
    libraries: str = ""
    late: str = ""  # rooms imported inside a function: optional ones, never to dodge a cycle


# Rooms that know nothing of each other come first. A package is one room, `generations` apart.
TABLE = {
    "generations": May(),
    "generations/process": May("generations"),
    "generations/claims": May(),
    "generations/layout": May("generations"),
    "generations/state_file": May("generations/claims generations/layout"),
    "generations/state_path": May("generations/layout"),
    "generations/worker": May("generations/layout generations/state_file"),
    "generations/host": May(
        "generations generations/claims generations/layout generations/worker"
    ),
    "generations/reach": May(
        "generations generations/claims generations/host generations/process"
        " generations/state_path"
    ),
    "lanes": May(),
    "cookies": May(libraries="cachetools itsdangerous"),
    "views": May(libraries="werkzeug"),
    "recording": May("views", "flask"),
    "at_hand": May(),
    "encodings": May(libraries="werkzeug"),
    "prepared": May(libraries="werkzeug"),
    "files": May("prepared", "cachetools"),
    "replies": May("at_hand files prepared", "werkzeug"),
    "static": May("at_hand encodings files prepared replies", "werkzeug"),
    "statistics": May(),
    "storable": May(),
    "guards": May(libraries="flask werkzeug"),
    "set_up": May("guards", "flask werkzeug"),
    "identities": May("generations storable", "cachetools"),
    "middleware": May("at_hand lanes static statistics"),
    "options": May("lanes"),
    "per_request": May("lanes views", "flask"),
    "plain": May("storable", "werkzeug"),
    "routes": May("guards lanes set_up", "cachetools flask werkzeug"),
    "sessions": May("cookies lanes per_request", "flask werkzeug"),
    "answers": May("identities"),
    "needs": May("answers generations identities per_request plain storable views"),
    "users": May(
        "answers generations identities lanes needs per_request plain recording storable views"
    ),
    "adapters": May(),
    "adapters/flask_login": May(libraries="flask flask_login"),
    "adapters/flask_principal": May("storable", "flask flask_principal werkzeug"),
    "adapters/sqlalchemy": May("generations storable", "flask sqlalchemy"),
    "attaching": May(
        "adapters/flask_login cookies per_request recording sessions users",
        "flask flask_login",  # for the proxy that Flask-Principal's adapter is handed
        late="adapters/flask_principal",
    ),
    "app_cache": May(
        "at_hand attaching cookies generations generations/reach identities lanes middleware"
        " options per_request routes static statistics users",
        "flask",
        late="adapters/sqlalchemy",
    ),
    "extension": May("app_cache lanes middleware options statistics", "flask"),
    "": May("extension lanes"),  # the public face
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import: of a room, or of a library."""

    room: str | None
    library: str | None
    inner: str  # the module meant, within the package
    late: bool
    for_types: bool


def name_of(file: Path) -> str:
    """The module of *file* within the package, as a path."""
    name = file.relative_to(PACKAGE).with_suffix("").as_posix()
    return "" if name == "__init__" else name.removesuffix("/__init__")


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """The room a module belongs to: a file, or a package that is one room."""
    folder = module.rpartition("/")[0]
    return folder if folder in TABLE and module not in TABLE and folder else module


def imports_of(module: str) -> Iterator[Import]:
    tree = ast.parse(FILES[module].read_text())
    yield from _imports_in(tree, module, late=False, for_types=False)


def _imports_in(node: ast.AST, module: str, *, late: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            for name in _names(child, module):
                yield _import(name, late=late, for_types=for_types)
            continue
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _imports_in(
            child, module, late=late or is_function, for_types=for_types or is_guard
        )


def _names(node: ast.Import | ast.ImportFrom, module: str) -> list[str]:
    """The full dotted names of what is imported, submodules told from other names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        is_package = FILES[module].name == "__init__.py"
        parts = [PACKAGE.name, *filter(None, module.split("/"))]
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, *filter(None, [node.module])])
    full = [f"{base}.{alias.name}" for alias in node.names]
    return [name if _within(name) in FILES else base for name in full]


def _within(name: str) -> str | None:
    """The module of ours that a dotted name stands for, None if it is somebody else's."""
    top, _, rest = name.partition(".")
    return rest.replace(".", "/") if top == PACKAGE.name else None


def _import(name: str, *, late: bool, for_types: bool) -> Import:
    module = _within(name)
    if module is None:
        library = name.partition(".")[0]
        is_own = library in sys.stdlib_module_names
        return Import(None, None if is_own else library, "", late, for_types)
    assert module in FILES, name
    return Import(room_of(module), None, module, late, for_types)


def test_every_file_is_in_the_table_and_every_row_has_a_file() -> None:
    assert {room_of(module) for module in FILES} == TABLE.keys()


@pytest.mark.parametrize("module", FILES)
def test_a_room_imports_only_what_the_table_allows(module: str) -> None:
    row = TABLE[room_of(module)]
    imports = list(imports_of(module))
    for_use = [each for each in imports if not each.for_types]
    elsewhere = [each for each in for_use if each.room not in (None, room_of(module))]
    assert {each.room for each in elsewhere if not each.late} <= set(row.rooms.split())
    assert {each.room for each in elsewhere if each.late} <= set(row.late.split())
    assert {each.library for each in for_use} - {None} <= set(row.libraries.split())
    assert {each.library for each in imports if each.for_types} - {None} <= {"_typeshed"}


@pytest.mark.parametrize("room", TABLE)
def test_the_table_allows_nothing_that_is_not_made_use_of(room: str) -> None:
    row = TABLE[room]
    imports = [each for module in FILES if room_of(module) == room for each in imports_of(module)]
    assert set(row.rooms.split()) | set(row.late.split()) <= {each.room for each in imports}
    assert set(row.libraries.split()) <= {each.library for each in imports}


def test_a_library_is_imported_only_where_the_house_has_its_door() -> None:
    doors = {
        "flask_login": {"adapters/flask_login", "attaching"},
        "flask_principal": {"adapters/flask_principal"},
        "sqlalchemy": {"adapters/sqlalchemy"},
        "redis": set(),
    }
    for library, rooms in doors.items():
        assert {room for room, may in TABLE.items() if library in may.libraries.split()} == rooms


def test_adapters_know_nothing_of_each_other() -> None:
    for room, may in TABLE.items():
        if room.startswith("adapters/"):
            assert "adapters" not in may.rooms + may.late


def test_imports_run_in_no_circle() -> None:
    # Late ones and those for types as well; what a package says of itself is no circle.
    graph = {
        module: {each.inner for each in imports_of(module) if each.room is not None} - {module}
        for module in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(map(repr, error.args[1])))


@pytest.mark.parametrize("module", FILES)
def test_no_file_is_too_long_to_be_one_room(module: str) -> None:
    length = len(FILES[module].read_text().splitlines())
    assert length <= LONGEST
