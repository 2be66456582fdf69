"""Plain users: each request has a deep copy of its own, or the user is not remembered."""

from __future__ import annotations

import datetime
import decimal
import threading
import types
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.local import LocalProxy

from wsgi_usercache.plain import freeze, same, thaw
from wsgi_usercache.storable import Unstorable


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


class User:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def __eq__(self, other: object) -> bool:
        return type(other) is User and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


class Key(NamedTuple):
    name: str
    groups: tuple[str, ...]


class SubProxy(LocalProxy[Any]):
    pass


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.datetimes()
    | st.decimals(allow_nan=False)
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(alphabet="abc", min_size=1), inner).map(lambda d: User(**d))
        | st.sets(leaves)
    ),
    max_leaves=10,
)


def mutables_of(value: Any) -> list[int]:
    """The identity of all that could be changed in *value*."""
    if isinstance(value, User):
        return [id(value), *mutables_of(value.__dict__)]
    if isinstance(value, dict):
        return [id(value), *(each for held in value.values() for each in mutables_of(held))]
    if isinstance(value, (list, set)):
        return [id(value), *(each for held in value for each in mutables_of(held))]
    if isinstance(value, tuple):
        return [each for held in value for each in mutables_of(held)]
    return []


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(alphabet="abcdef", min_size=1), nested))
def test_a_thawed_user_equals_the_frozen_one_and_shares_nothing_with_it(
    held: dict[str, Any],
) -> None:
    user = User(**held)
    frozen = freeze(user)
    thawed = [thaw(frozen), thaw(frozen)]
    assert user == thawed[0] == thawed[1]
    assert type(thawed[0]) is User
    everything = [each for one in (user, frozen, *thawed) for each in mutables_of(one)]
    assert len(everything) == 4 * len(set(mutables_of(user)))
    assert len(set(everything)) == len(everything)
    assert same(user, frozen)


def test_what_one_request_writes_the_next_does_not_see() -> None:
    user = User(roles=["reader"], address={"city": "Bern"})
    frozen = freeze(user)
    user.roles.append("admin")
    first: Any = thaw(frozen)
    first.roles.append("admin")
    first.address["city"] = "Basel"
    first.name = "new"
    assert thaw(frozen) == User(roles=["reader"], address={"city": "Bern"})


def test_what_a_user_holds_twice_is_one_thing_in_the_copy_as_well() -> None:
    roles = ["reader"]
    thawed: Any = thaw(freeze(User(roles=roles, again=roles)))
    assert thawed.roles is thawed.again


def test_a_user_that_is_immutable_through_and_through_is_kept_as_well() -> None:
    key = Key("ann", ("a", "b"))
    assert thaw(freeze(key)) == key


def holding(value: Any) -> list[Callable[[], Any]]:
    return [
        lambda: User(held=value),
        lambda: User(held=[value]),
        lambda: User(held={"deep": {"deeper": (1, value)}}),
        lambda: User(held=User(held=value)),
    ]


PROXIES: tuple[Any, ...] = (
    LocalProxy(lambda: "text"),
    LocalProxy(lambda: ["list"]),
    LocalProxy(lambda: User(name="ann")),
    SubProxy(lambda: "text"),
)


@pytest.mark.parametrize("proxy", PROXIES, ids=["str", "list", "object", "subclass"])
@pytest.mark.parametrize("place", range(4))
def test_a_user_that_holds_a_proxy_is_refused(proxy: Any, place: int) -> None:
    with pytest.raises(Unstorable) as refused:
        freeze(holding(proxy)[place]())
    assert refused.value.reason == "holds a proxy"


def test_a_user_that_is_a_proxy_is_refused() -> None:
    with pytest.raises(Unstorable, match="holds a proxy"):
        freeze(LocalProxy(lambda: User()))


@pytest.mark.parametrize("place", range(4))
def test_a_user_that_holds_a_database_row_is_refused(place: int) -> None:
    with pytest.raises(Unstorable, match="holds a database row"):
        freeze(holding(Row(id=1))[place]())


class Raising:
    def __deepcopy__(self, memo: object) -> object:
        raise KeyError("not now")


class Named:
    """As modules and singletons do it: its copy is itself."""

    def __reduce__(self) -> str:
        return "NAMED"


NAMED = Named()


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    "held",
    [threading.Lock(), threading.local(), (each for each in ()), threading, Raising()],
    ids=lambda held: type(held).__name__,
)
def test_a_user_that_holds_what_can_not_be_copied_is_refused(held: Any, place: int) -> None:
    with pytest.raises(Unstorable) as refused:
        freeze(holding(held)[place]())
    assert refused.value.reason == "not copyable"


def test_a_user_whose_copy_is_the_same_object_is_refused() -> None:
    with pytest.raises(Unstorable, match="not copyable"):
        freeze(NAMED)


class Once:
    """An object that lets itself be copied once."""

    def __init__(self, copies: int) -> None:
        self.copies = copies

    def __deepcopy__(self, memo: object) -> Once:
        if not self.copies:
            raise RuntimeError("used up")
        return Once(self.copies - 1)


def test_a_user_that_can_not_be_thawed_is_unstorable_and_no_error_of_its_own() -> None:
    frozen = freeze(User(held=Once(1)))
    with pytest.raises(Unstorable, match="not copyable"):
        thaw(frozen)


class Asking:
    """An object whose attributes can not be asked for, as some lazy ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise LookupError("outside of a request")


def test_looking_for_rows_asks_a_user_for_nothing() -> None:
    assert type(freeze(Asking())) is Asking


def test_ordinary_values_come_back_as_they_were() -> None:
    held = {
        "id": uuid.UUID(int=7),
        "born": datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
        "credit": decimal.Decimal("1.50"),
        "tags": {"a", "b"},
    }
    assert thaw(freeze(User(**held))) == User(**held)


class Grade(int):
    pass


class Tags(list[str]):
    pass


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def graded(attribute: str) -> Grade:
    grade = Grade(1)
    grade.note = attribute  # type: ignore[attr-defined]
    return grade


CHANGED: list[tuple[Any, Any]] = [
    (1, 2),
    (1, "1"),
    (1, True),
    ([1], [1, 2]),
    ({"a": 1}, {"b": 1}),
    ({"a": None}, {"b": None}),
    ({"a", "b"}, {"a"}),
    (Grade(1), Grade(2)),
    (graded("a"), graded("b")),
    (Tags(["a"]), Tags(["b"])),
    (Slotted(1), Slotted(2)),
    (User(deep=[User(x=1)]), User(deep=[User(x=2)])),
    (deque([1]), deque([2])),
    (OrderedDict(a=1), OrderedDict(a=2)),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
    (Raising(), Raising()),
    (float("nan"), -float("nan")),
]


@pytest.mark.parametrize(("old", "new"), CHANGED, ids=lambda value: type(value).__name__)
def test_a_user_that_was_changed_anywhere_is_not_the_same(old: Any, new: Any) -> None:
    for place in range(4):
        assert not same(holding(old)[place](), holding(new)[place]())
        assert not same(holding(new)[place](), holding(old)[place]())


@pytest.mark.parametrize("value", [old for old, _ in CHANGED if type(old) is not Raising])
def test_a_copy_nobody_changed_is_the_same(value: Any) -> None:
    user = User(held=value)
    user.knows_itself = [user]
    copied = freeze(user)
    assert same(user, copied)
    assert same(copied, user)


class Stubborn:
    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def __deepcopy__(self, memo: object) -> Stubborn:
        return Stubborn()

    __hash__ = None  # type: ignore[assignment]


def test_users_that_can_not_be_compared_are_not_taken_for_the_same() -> None:
    user = User(held=Stubborn())
    assert not same(user, freeze(user))
