"""Who is this? One look-up: from the entry, thawed, or from a recorded load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from . import plain
from .generations import slot_of
from .identities import Entry, IdentityCache, Loaded, Unstorable
from .lanes import USER_ID, Lane
from .per_request import RequestState, RequestStates
from .recording import Seen, recorded

log = logging.getLogger("wsgi_usercache")

Loader = Callable[[Any], Any]

MOST_IDENTITIES = 8  # of one user; more would be made of something the client chooses


class Run(Protocol):
    """The database's side of one recorded run."""

    @property
    def refusal(self) -> str | None:
        """Why what was read can not be remembered, or None."""

    def names(self, user: object) -> frozenset[str]:
        """What the answer rests on: the names of what was read on behalf of *user*."""

    def close(self) -> None:
        """Close the transactions this run opened, and nothing else."""


class Rows(Protocol):
    """Users that are database rows, and the connections of the request."""

    def known(self) -> frozenset[str]: ...
    def run(self) -> AbstractContextManager[Run]: ...
    def loads(self, user: Any) -> None: ...
    def owns(self, user: object) -> bool: ...
    def freeze(self, user: Any, run: Any, known_frozen: Any) -> object: ...
    def thaw(self, data: Any) -> object: ...
    def holds_connection(self) -> bool: ...
    def pending(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user callback answered in this request, and the entry it came from or filled.

    *allowed* is what `vary` read: handlers may read it too.
    """

    key: Hashable
    entry: Entry
    user: object
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A user's data, and who can make a user of it again."""

    thaws: Any  # Rows, or the module for plain objects
    data: object


def user_name(user_id: object) -> str:
    """The name under which changes of the user with this log-in id are known."""
    return f"user:{user_id}"


class Users:
    """The look-ups of one app in one process."""

    def __init__(
        self,
        identities: IdentityCache,
        states: RequestStates,
        rows: Rows | None,
        *,
        vary: Callable[[], str | None] | None,
        told: set[str],
    ) -> None:
        self.identities = identities
        self._states = states
        self._rows = rows
        self._vary = vary
        self._told = told

    def answer(self, user_id: Any, load: Loader) -> Any:
        """Return what *load* answers for *user_id*, from memory if it is held and still good."""
        state = self._states.current()
        if state is None or type(user_id) not in (str, int):
            return load(user_id)
        state.answer = None
        variant = self._variant(state)
        if variant is None:
            return load(user_id)
        part, allowed = variant
        key = (type(user_id), user_id, part)
        if self._written(key):
            self.identities.count_unstored("written in this request")
            return load(user_id)
        user = self._look_up(state, key, load, allowed)
        if user is not None:
            state.environ[USER_ID] = str(user_id)
        return user

    @contextmanager
    def handlers(self) -> Iterator[HandlersRun | None]:
        """Record a run of identity handlers. Nothing is recorded outside a known request."""
        state = self._states.current()
        if state is None:
            yield None
            return
        before = self.identities.numbers()
        with recorded(state.session) as seen, self._run() as run:
            try:
                yield HandlersRun(self, self._rows, state, seen, run, before)
            finally:
                if run is not None:
                    run.close()

    def remembered_needs(self, key: Hashable) -> tuple[Any, object] | None:
        """What the handlers gave the identity *key*, and whose it is, if the user callback
        answered this request from the entry that knows it."""
        state = self._states.current()
        if state is None or state.lane is Lane.FRESH or state.answer is None:
            return None
        answer: Answer = state.answer
        needs = answer.entry.needs.get(key)
        return None if needs is None else (needs, answer.user)

    def count_unstored(self, reason: str) -> None:
        """One more answer that was not remembered, and why."""
        self.identities.count_unstored(reason)

    def identified(self, user_id: str | None) -> None:
        """The request's user is another one now: forget what was answered at its start."""
        state = self._states.current()
        if state is None:
            return
        state.answer = None
        if user_id is None:
            state.environ.pop(USER_ID, None)
        else:
            state.environ[USER_ID] = user_id

    def say_once(self, message: str, level: int = logging.WARNING) -> None:
        """Log *message*, once per process."""
        if message not in self._told:
            self._told.add(message)
            log.log(level, message)

    def _look_up(
        self,
        state: RequestState,
        key: tuple[type, Any, str],
        load: Loader,
        allowed: frozenset[str],
    ) -> Any:
        rows = self._rows
        entry, loaded = self.identities.get_or_load(
            key,
            user_name(key[1]),
            lambda: self._load(state, key[1], load, allowed),
            refresh=state.lane is Lane.FRESH,
            may_wait=lambda: rows is None or not rows.holds_connection(),
        )
        if loaded is not None:
            user = loaded.user
        elif entry is None or entry.frozen is None:
            user = None
        else:
            try:
                user = entry.frozen.thaws.thaw(entry.frozen.data)
            except Unstorable as error:
                self.identities.count_unstored(error.reason)
                return load(key[1])
        if entry is not None and user is not None:
            state.answer = Answer(key, entry, user, allowed)
        return user

    def _load(
        self, state: RequestState, user_id: Any, load: Loader, allowed: frozenset[str]
    ) -> Loaded:
        with recorded(state.session) as seen, self._run() as run:
            user = load(user_id)
            if run is not None and self._rows is not None and self._rows.owns(user):
                self._rows.loads(user)
            try:
                return self._remembered(user, seen, run, allowed)
            finally:
                if run is not None:
                    run.close()

    def _remembered(
        self, user: Any, seen: Seen, run: Run | None, allowed: frozenset[str]
    ) -> Loaded:
        reads = seen.refusal(allowed)
        if reads is not None:
            self.say_once(
                f"the user loader {reads}: its answers differ from request to request and are not"
                " cached. If what it reads tells users apart, name it in USERCACHE_VARY."
            )
            return Loaded(user, unstored="reads the request")
        try:
            if run is not None and run.refusal is not None:
                raise Unstorable(run.refusal)
            frozen = None if user is None else self._freeze(user, run)
        except Unstorable as error:
            self.say_once(f"users are not cached: {error.reason}")
            return Loaded(user, unstored=error.reason)
        return Loaded(user, frozen, run.names(user) if run is not None else frozenset())

    def _freeze(self, user: Any, run: Run | None) -> Frozen:
        if self._rows is not None and self._rows.owns(user):
            return Frozen(self._rows, self._rows.freeze(user, run, None))
        return Frozen(plain, plain.freeze(user))

    @contextmanager
    def _run(self) -> Iterator[Run | None]:
        if self._rows is None:
            yield None
        else:
            with self._rows.run() as run:
                yield run

    def _written(self, key: Hashable) -> bool:
        """Whether this request has written, and not committed, what the entry rests on."""
        pending = self._rows.pending() if self._rows is not None else None
        if not pending:
            return False
        entry = self.identities.find(key)
        return entry is not None and not entry.numbers.keys().isdisjoint(map(slot_of, pending))

    def _variant(self, state: RequestState) -> tuple[str, frozenset[str]] | None:
        if self._vary is None:
            return "", frozenset()
        try:
            with recorded(state.session) as seen:
                part = self._vary()
        except Exception:
            self.say_once("USERCACHE_VARY raised; the request is not cached", logging.ERROR)
            log.debug("USERCACHE_VARY raised", exc_info=True)
            return None
        return None if part is None else (part, frozenset(seen.reads))


class HandlersRun:
    """A run of identity handlers, as long as it is on."""

    def __init__(
        self,
        users: Users,
        rows: Rows | None,
        state: RequestState,
        seen: Seen,
        run: Run | None,
        before: Mapping[int, int],
    ) -> None:
        self._users = users
        self._rows = rows
        self._state = state
        self._seen = seen
        self._run = run
        self._before = before

    @property
    def user(self) -> object | None:
        """Who the user callback answered in this request, if from an entry."""
        return None if self._state.answer is None else self._state.answer.user

    @property
    def asked_for_user(self) -> bool:
        """Whether the handlers wanted to know who the request's user is."""
        return self._seen.asked_for_user

    def keep(self, key: Hashable, needs: object) -> None:
        """Remember *needs* with the user, together with what the handlers loaded of him."""
        answer: Answer | None = self._state.answer
        if answer is None:
            return
        reads = self._seen.refusal(answer.allowed)
        if reads is not None:
            self._users.say_once(
                f"an identity handler {reads}: it is called on each request. If what it reads"
                " tells users apart, name it in USERCACHE_VARY."
            )
            raise Unstorable("handlers read the request")
        entry = self._grown(answer)
        kept = MappingProxyType({**entry.needs, key: needs})
        if len(kept) > MOST_IDENTITIES:
            raise Unstorable("too many identities")
        entry = replace(entry, needs=kept)
        self._users.identities.replace(answer.key, answer.entry, entry)
        self._state.answer = replace(answer, entry=entry)

    def _grown(self, answer: Answer) -> Entry:
        """The entry with what the handlers loaded, resting on what they read as well."""
        run, entry = self._run, answer.entry
        if run is None or self._rows is None:
            return entry
        if run.refusal is not None:
            raise Unstorable(run.refusal)
        read = {slot: self._before.get(slot, 0) for slot in map(slot_of, run.names(answer.user))}
        if 0 in read.values() or any(entry.numbers.get(s, n) != n for s, n in read.items()):
            raise Unstorable("changed during the load")
        frozen = entry.frozen
        if isinstance(frozen, Frozen) and frozen.thaws is self._rows:
            data = self._rows.freeze(answer.user, run, frozen.data)
            frozen = Frozen(self._rows, data)
        return replace(entry, frozen=frozen, numbers=MappingProxyType({**entry.numbers, **read}))
