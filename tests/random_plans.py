"""Random plans: requests, and what is done in each."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from random_acts import VALUES
from random_site import LANES, Step

PATHS = [
    "name", "active", "plan", "score", "born", "settings", "prefs", "tags", "blob", "spot", "bio",
    "edits", "version", "kind", "shout", "thing_count", "label", "was", "get_id", "is_active",
    "team", "team.name", "team.size", "team.members.name", "boss", "boss.name", "boss.team.name",
    "boss.team.size", "boss.boss", "boss.prefs", "boss.roles.name", "staff.name", "staff.prefs",
    "friends.name",
    "friends.roles.name", "friends.friends", "admirers.name", "roles", "roles.name", "roles.rank",
    "roles.abilities.name", "roles.members.name", "role_names", "things", "things.title",
    "things.user", "some_things.title", "grants", "grants.level", "grants.role.name", "granted",
    "granted.name", "duties.name", "level", "notes", "until",
]  # fmt: skip

_OF_USERS = ["name", "active", "plan", "score", "born", "settings", "prefs", "tags", "blob",
             "bio", "x", "team_id", "boss_id", "level", "notes"]  # fmt: skip
_ROWS = ["User:1", "User:2", "User:3", "Role:1", "Role:2", "Team:1", "Thing:1", "Thing:2",
         "Ability:1", "Grant:1,2"]  # fmt: skip
_SYNC = ["auto", "evaluate", "fetch", False]
_PAIRS = ["user_role", "role_ability", "user_ability", "user_user"]


def _one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def _act(*parts: Any) -> st.SearchStrategy[Any]:
    """An act; the parts that are no strategies are themselves."""
    return st.tuples(
        *(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)
    )


_number, _key, _id = st.integers(0, 3), st.integers(1, 3), st.integers(1, 4)
_users = _one_of(*["me"] * 4, "User:1", "User:2", "User:3")
_rows = _one_of(*["me"] * 6, *_ROWS)
_columns = st.sampled_from(sorted(VALUES))
_not_keys = st.sampled_from(sorted(set(VALUES) - {"id"}))  # of which a row may have two
_of_users = st.sampled_from(_OF_USERS)
_classes = _one_of("User", "User", "Party", "Role", "Team", "Thing", "Ability", "Admin")
_whole = _one_of(
    "User", "Party", "Role", "Team", "Thing", "Ability"
)  # each row in one table alone
_how = _one_of("add", "add", "remove", "replace", "clear")
_relations = _one_of(
    "roles", "roles", "things", "team", "boss", "staff", "friends", "admirers", "grants",
    "granted", "duties",
)  # fmt: skip

reads = st.one_of(
    *[_act("read", _users, st.sampled_from(PATHS))] * 4,
    _act("count", _users, _one_of("roles", "things", "staff", "grants", "granted", "role_names")),
    _act("needs"),
    _act("same", _key),
    _act("state", _users),
    _act("find", _one_of("User", "Role", "Party"), _one_of("name", "id"), _number,
         _one_of("plain", "populate", "lock")),
    _act("total", _classes),
    _act("visit", _one_of(0, 1), st.sampled_from(PATHS)),
)  # fmt: skip

_edits = st.one_of(
    _act("write", _rows, _columns, _number),
    _act("write", _users, _of_users, _number),
    _act("mutate", _users, _one_of("settings", "prefs", "tags", "blob", "spot", "notes"),
         st.booleans()),
    _act("link", _users, _relations, _key, _how),
    _act("link", _one_of("Role:1", "Role:2"), _one_of("members", "abilities"), _key, _how),
    _act("link", _one_of("Team:1", "Team:2"), "members", _key, _how),
    _act("link", _one_of("Thing:1", "Thing:2"), "user", _key, _how),
    _act("create", _one_of("User", "Thing", "Role", "Grant", "Team", "Admin"), _id, _number),
    _act("delete", _rows),
    _act("reborn", _key, st.booleans()),
    _act("merge", _key, _number),
)  # fmt: skip

_of_sessions = st.one_of(
    _act("of_session", _one_of("flush", "commit", "commit", "rollback", "expire_all", "remove")),
    _act("of_row", _users, _one_of("expire", "refresh", "expunge"),
         _one_of(None, ["name"], ["roles"], ["prefs", "bio"])),
    _act("savepoint", _one_of("begin", "begin", "release", "back")),
)  # fmt: skip

_past = st.one_of(
    _act("query_update", _classes, _not_keys, _number, _key, st.sampled_from(_SYNC)),
    _act("query_delete", _whole, _key, st.sampled_from(_SYNC)),
    _act("core_update", _classes, _not_keys, _number, _key, st.booleans()),
    _act("core_update", _one_of("Role", "Team", "Thing"), "id", _number, _key, st.booleans()),
    _act("core_pairs", st.sampled_from(_PAIRS), _key, _key, st.booleans()),
    _act("upsert", _whole, _id, _number),
    _act("text_update", _whole, _number, _key,
         _one_of("session", "connection", "engine", "nobody commits")),
    _act("bulk", _one_of("insert", "update", "mappings", "many"), _classes, _not_keys, _number,
         _id),
)  # fmt: skip

_elsewhere = _act("elsewhere", st.lists(st.one_of(_edits, _past), min_size=1, max_size=2))

_who = st.one_of(
    _act("login", _key),
    _act("logout"),
    _act("tell", _one_of("clear", "invalidate", "changing"), _key),
    _act("fail", _one_of("abort", "error")),
)

# A request, or, with no path, what is done between two.
_steps: st.SearchStrategy[Step] = st.fixed_dictionaries({
    "path": _one_of(*[LANES[0]] * 6, *LANES[1:], "", ""),
    "client": _one_of(0, 0, 0, 1),
    "acts": st.lists(
        st.one_of(reads, _edits, _edits, _edits, _of_sessions, _past, _past, _elsewhere, _who),
        min_size=1, max_size=4,
    ),
    "on_error": _one_of("rollback", "rollback", "raise", "pass"),
    "end": _one_of("commit", "commit", "commit", ""),
})  # fmt: skip


def _look(client: int, *acts: Any) -> Step:
    return {"path": LANES[0], "client": client, "acts": acts, "on_error": "pass", "end": ""}


_GRAPH = (("state", "me"), ("needs",), ("graph", "me"))
_LOOKS = [_look(client, *_GRAPH) for client in (0, 0, 1, 1)]  # a miss, and what it left behind
_LAST = [_look(client, *_GRAPH, *(("read", "me", path) for path in PATHS)) for client in (0, 1)]


def _looked_at(steps: list[Step]) -> list[Step]:
    """Users are remembered before each step, and all that is remembered is seen after it."""
    return [*_LOOKS, *(each for step in steps for each in (step, *_LOOKS)), *_LAST]


plans: st.SearchStrategy[list[Step]] = st.lists(_steps, min_size=1, max_size=5).map(_looked_at)
