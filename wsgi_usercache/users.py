"""Who is this? One look-up: from the entry, thawed, or from a recorded load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from . import plain
from .answers import Answer, Frozen, Rows, Run
from .generations import EVERYBODY
from .identities import IdentityCache, Loaded
from .lanes import USER_ID, Lane
from .needs import HandlersRun
from .per_request import RequestState, RequestStates
from .recording import recorded
from .storable import ADVICE, Unstorable
from .views import Seen

log = logging.getLogger("wsgi_usercache")

Loader = Callable[[Any], Any]

READS = "reads the request"
MOST_TOLD = 100  # messages; one that names what a loader read may be made of anything


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
        id_of: Callable[[Any], Any],  # what a user logs in with
        told: set[str],
    ) -> None:
        self.identities = identities
        self._states = states
        self._rows = rows
        self._vary = vary
        self._id_of = id_of
        self._told = told

    def answer(self, user_id: Any, load: Loader) -> Any:
        """Return what *load* answers for *user_id*, from memory if it is held and still good."""
        state = self._states.current()
        if state is None:
            return load(user_id)
        state.answer = None
        user = self._answer(state, user_id, load)
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
        with recorded(state.session) as seen, self._run() as run:
            try:
                yield HandlersRun(self.identities, self._rows, state, seen, run, self.say_once)
            finally:
                if run is not None:
                    run.close()

    def remembered_needs(self, key: Hashable) -> tuple[Any, object] | None:
        """What the handlers gave the identity *key*, and whose it is, if the user callback
        answered this request from the entry that knows it."""
        state = self._states.current()
        if state is None or state.answer is None:
            return None
        answer: Answer = state.answer
        needs = answer.entry.needs.get(key)
        return None if needs is None else (needs, answer.user)

    def count_unstored(self, reason: str) -> None:
        """One more answer that was not remembered, and why; the log says it once."""
        self.identities.count_unstored(reason)
        self._advise(reason)

    def _advise(self, reason: str) -> None:
        if reason in ADVICE:
            self.say_once(f"users or their needs are not cached ({reason}): {ADVICE[reason]}")

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

    def failed(self, error: BaseException) -> None:
        """The request ends in *error*. If rows turned out not to be what they were when they were
        kept, its users are loaded again: somebody changed them unseen."""
        state = self._states.current()
        rows = self._rows
        if state is not None and state.thawed and rows is not None and rows.are_outdated(error):
            self.identities.invalidate(state.thawed)

    def say_once(self, message: str, level: int = logging.WARNING) -> None:
        """Log *message*, once per process."""
        if message not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(message)
            log.log(level, message)

    def _answer(self, state: RequestState, user_id: Any, load: Loader) -> Any:
        variant = self._variant(state) if type(user_id) in (str, int) else None
        if variant is None:
            return load(user_id)
        part, allowed = variant
        key = (type(user_id), user_id, part)
        if self._written(key):
            self.identities.count_unstored("written in this request")
            return load(user_id)
        return self._look_up(state, key, load, allowed)

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
                self.identities.count_unthawed(error.reason)
                self._advise(error.reason)
                return load(key[1])
            state.thawed.add(user_name(key[1]))
        if entry is not None and user is not None:
            state.answer = Answer(key, entry, user, allowed)
        return user

    def _load(
        self, state: RequestState, user_id: Any, load: Loader, allowed: frozenset[str]
    ) -> Loaded:
        with recorded(state.session) as seen, self._run() as run:
            try:
                user = load(user_id)
                if run is not None and self._rows is not None and self._rows.owns(user):
                    self._rows.load_named(user)
                return self._remembered(user_id, user, seen, run, allowed)
            except TypeError:
                if not seen.has_shown_views:
                    raise
            finally:
                if run is not None:
                    run.close()
        # What is written in C (json's encoder) takes no view of headers or arguments for them.
        return Loaded(load(user_id), unstored=READS)

    def _remembered(
        self, user_id: Any, user: Any, seen: Seen, run: Run | None, allowed: frozenset[str]
    ) -> Loaded:
        reads = seen.refusal(allowed)
        if reads is not None:
            self.say_once(
                f"the user loader {reads}: its answers differ from request to request and are not"
                " cached. If what it reads tells users apart, name it in USERCACHE_VARY."
            )
            return Loaded(user, unstored=READS)
        try:
            if run is not None and run.refusal is not None:
                raise Unstorable(run.refusal)
            if user is not None and not self._goes_by(user, user_id):
                raise Unstorable("another id")  # its changes would move another name
            frozen = None if user is None else self._freeze(user, run)
        except Unstorable as error:
            self._advise(error.reason)
            return Loaded(user, unstored=error.reason)
        return Loaded(user, frozen, run.names(user) if run is not None else frozenset())

    def _goes_by(self, user: Any, user_id: Any) -> bool:
        """Whether changes of *user*, and `invalidate(user)`, move the name of *user_id*."""
        if self._rows is not None and not self._rows.goes_by(user, user_name(user_id)):
            return False
        try:
            return str(self._id_of(user)) == str(user_id)
        except Exception:  # the application's own code
            return False

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
        return entry is not None and (
            EVERYBODY in pending or not entry.numbers.keys().isdisjoint(pending)
        )

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
        if part is not None and type(part) is not str:
            self.say_once(f"USERCACHE_VARY must answer a str or None, got {type(part).__name__}")
            return None
        return None if part is None else (part, frozenset(seen.reads))
